#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// The problem: a safetensors file's header says where each tensor lies, and an index beside several files says which file has which tensor; both
/// come from anywhere and nothing in them can be trusted. Read here as described in huggingface/safetensors (README.md, "Format"; the bounds and the
/// order of checks follow safetensors/src/tensor.rs). Stateless; any thread; blocking (reads headers only).
namespace thaw::node {

/// What a reader accepts at most. Only the header's length is the format's own bound; no real model comes near the others.
constexpr std::uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
constexpr std::uint64_t kMaxSafetensorsIndexBytes = 100'000'000;
constexpr std::size_t kMaxSafetensorsTensors = 262'144;  ///< in one file, and in an index
constexpr std::size_t kMaxSafetensorsNameBytes = 4'096;
constexpr std::size_t kMaxSafetensorsDimensions = 64;
constexpr std::size_t kMaxSafetensorsShards = 1'000;
constexpr std::size_t kMaxSafetensorsNotes = 65'536;  ///< keys in __metadata__

struct SafetensorsTensor {
  std::string name;
  std::string dtype;                 ///< "BF16", as the format writes it
  std::vector<std::uint64_t> shape;  ///< empty: a scalar; a 0 in it: no bytes
  std::uint64_t offset = 0;          ///< from the start of the file
  std::uint64_t bytes = 0;
};

/// One file's header.
struct SafetensorsHeader {
  std::string path;
  std::uint64_t file_bytes = 0;
  std::uint64_t data_offset = 0;           ///< where the first tensor begins; a multiple of 8 in files of current writers
  std::vector<SafetensorsTensor> tensors;  ///< by offset, each beginning where the one before ends; the last ends the file; no name twice
};

/// Reads and checks one file's header. Errors: not_found, denied, io, or invalid with what is wrong and where.
base::Result<SafetensorsHeader> read_safetensors_header(const std::string& path);

/// Bits of one value of a dtype; nothing when this release does not know it.
std::optional<std::uint64_t> safetensors_dtype_bits(std::string_view dtype);

/// A model: one file, or several with an index.
struct SafetensorsModel {
  std::string index_path;                 ///< empty for a single file
  std::vector<SafetensorsHeader> shards;  ///< by name; their tensors have different names

  [[nodiscard]] std::uint64_t file_bytes() const;  ///< of the shards
};

/// `path`: a .safetensors file, an index (NAME.safetensors.index.json), or a directory that holds one index or one .safetensors file. The index's
/// shards must lie in its directory: links that lead elsewhere are refused, except into the blobs/ of the Hugging Face cache that it is part of.
/// Each tensor must be in the shard that the index names and in no other; tensors of a shard that the index leaves out are there all the same
/// (engines load them too). The shards' paths are what links lead to.
base::Result<SafetensorsModel> open_safetensors_model(const std::string& path);

}  // namespace thaw::node
