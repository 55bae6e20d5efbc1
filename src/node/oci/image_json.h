#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// The JSON of container images: https://github.com/opencontainers/image-spec (image-index, manifest, config) and Docker's own of the same shape
/// (schema 2). It comes from whoever made the image: everything is checked and bounded. Pure.
namespace thaw::node {

inline constexpr std::size_t kMaxManifest_bytes = 4ULL << 20;  // what registries take
inline constexpr std::size_t kMaxImageLayers = 127;            // as many as docker(1) makes; each is a lower directory of an overlay

/// A blob, by what it is and what it holds.
struct OciBlob {
  std::string media_type;
  std::string digest;       ///< "sha256:…"
  std::uint64_t bytes = 0;  ///< as it is sent: compressed
};

struct OciManifest {
  OciBlob config;
  std::vector<OciBlob> layers;  ///< the lowest first; 1 to kMaxImageLayers

  [[nodiscard]] std::uint64_t bytes() const;  ///< to fetch, config and layers
};

/// What of an image's config a root and an engine in it need.
struct OciConfig {
  std::vector<std::string> diff_ids;  ///< "sha256:…" of each layer as a plain tar file, in the manifest's order
  std::vector<std::string> entrypoint, cmd;
  std::map<std::string, std::string> env;
  std::string working_dir;  ///< absolute; "/" where the image says nothing
};

/// What a digest of the caller's can lead to.
struct ManifestOrIndex {
  bool is_index = false;
  OciManifest manifest;      ///< where it is none
  std::string own_platform;  ///< digest of the manifest for linux on `architecture`, where it is one
};

/// `architecture`: as images say it ("amd64", "arm64"). Errors: invalid, with what is wrong; not_found where an index has nothing for this machine;
/// unavailable for a kind of layer that umoci cannot unpack.
base::Result<ManifestOrIndex> read_manifest(std::string_view json, std::string_view architecture);
base::Result<OciConfig> read_image_config(std::string_view json);

/// This machine's, as images say it.
std::string own_architecture();

/// Whether a layer of this type is a gzip file; else it is a plain tar file.
bool is_gzip_layer(std::string_view media_type);

}  // namespace thaw::node
