#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "spec/source_ref.h"

/// A model hub with Hugging Face's API: what it says of a repository, and which of its files are a model. Pure.
namespace thaw::node::pull {

struct HubFile {
  std::string path;  ///< within the repository
  std::uint64_t bytes = 0;
  std::string sha256;    ///< of large files; else empty
  std::string git_blob;  ///< SHA-1 as git makes it, of small ones: 40 hex digits; else empty
};

struct HubListing {
  std::string commit;  ///< that the revision is now
  std::vector<HubFile> files;
};

constexpr std::size_t kMaxHubFiles = 10'000;

/// Path of the question: /api/models/ORG/REPO/revision/REV?blobs=true (https://huggingface.co/docs/hub/api).
std::string listing_path(const spec::HubRef& ref);
/// Path of one file's bytes: /ORG/REPO/resolve/COMMIT/FILE.
std::string file_path(const std::string& repo, const std::string& commit, const std::string& file);

/// Its answer. Fails with invalid when it is none, or names files outside the repository.
base::Result<HubListing> parse_listing(std::string_view json);

/// Which files to fetch.
struct Selection {
  std::vector<HubFile> files;  ///< in the order of their names
  std::string main;            ///< file name (without folders) that the engine is given; empty: the directory
};

/// `directory_wanted`: the engine reads directories of safetensors (all but llama.cpp). A file that is named is taken, with the other parts of its
/// model; else the GGUF file of the wanted quantisation, or Q4_K_M, or the only one; else safetensors with what belongs to them. Fails with
/// not_found, naming what there is.
base::Result<Selection> select_files(const HubListing& listing, const spec::HubRef& ref, bool directory_wanted);

}  // namespace thaw::node::pull
