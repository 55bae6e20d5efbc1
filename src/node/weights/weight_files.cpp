#include "node/weights/weight_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <string_view>

#include "node/weights/buffered_file.h"
#include "node/weights/gguf.h"
#include "node/weights/safetensors.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kMagicBytes = 9;

WeightFiles from_gguf(GgufModel model) {
  WeightFiles weights;
  weights.format = WeightFormat::gguf;
  for (GgufHeader& part : model.parts) {
    const auto file = static_cast<std::uint32_t>(weights.files.size());
    weights.files.push_back({part.path, part.file_bytes});
    for (GgufTensor& tensor : part.tensors) {
      weights.tensors.push_back({std::move(tensor.name), file, tensor.offset, tensor.bytes, gguf_type_name(tensor.type),
                                 std::vector<std::uint64_t>(tensor.shape.begin(), tensor.shape.end())});
    }
  }
  return weights;
}

/// When a layer is needed: those without a number before all others (embeddings) or after them.
struct Turn {
  enum class Part { embeddings, layers, rest };
  Part part = Part::rest;
  std::uint64_t layer = 0;
  auto operator<=>(const Turn&) const = default;
};

/// "model.layers.7.mlp.up_proj.weight": the first part of the name that is a number is the layer's. "model.embed_tokens.weight", GPT-2's "wte.weight"
/// and "wpe.weight", BLOOM's "word_embeddings.weight": embeddings.
Turn turn_of(std::string_view name) {
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    std::uint64_t layer = 0;
    const auto [stop, error] = std::from_chars(part.data(), part.data() + part.size(), layer);
    if (error == std::errc() && stop == part.data() + part.size()) return {Turn::Part::layers, layer};
    if (part.find("embed") != std::string_view::npos || part == "wte" || part == "wpe") return {Turn::Part::embeddings, 0};
    begin = end + 1;
  }
  return {Turn::Part::rest, 0};
}

WeightFiles from_safetensors(SafetensorsModel model) {
  WeightFiles weights;
  weights.format = WeightFormat::safetensors;
  std::vector<std::pair<Turn, WeightTensor>> in_turn;
  for (SafetensorsHeader& shard : model.shards) {
    const auto file = static_cast<std::uint32_t>(weights.files.size());
    weights.files.push_back({shard.path, shard.file_bytes});
    for (SafetensorsTensor& tensor : shard.tensors) {
      const Turn turn = turn_of(tensor.name);
      in_turn.emplace_back(turn,
                           WeightTensor{std::move(tensor.name), file, tensor.offset, tensor.bytes, std::move(tensor.dtype), std::move(tensor.shape)});
    }
  }
  std::stable_sort(in_turn.begin(), in_turn.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  weights.tensors.reserve(in_turn.size());
  for (auto& [turn, tensor] : in_turn) weights.tensors.push_back(std::move(tensor));
  return weights;
}

base::Result<WeightFiles> open_safetensors(const std::string& path) {
  THAW_ASSIGN_OR_RETURN(auto model, open_safetensors_model(path));
  return from_safetensors(std::move(model));
}

}  // namespace

std::uint64_t WeightFiles::file_bytes() const {
  std::uint64_t sum = 0;
  for (const WeightFile& file : files) sum += file.bytes;
  return sum;
}

std::uint64_t WeightFiles::tensor_bytes() const {
  std::uint64_t sum = 0;
  for (const WeightTensor& tensor : tensors) sum += tensor.bytes;  // they do not overlap, so no overflow
  return sum;
}

std::vector<WeightRange> WeightFiles::ranges() const {
  std::vector<WeightRange> ranges;
  for (const WeightTensor& tensor : tensors) {
    if (tensor.bytes == 0) continue;
    if (!ranges.empty() && ranges.back().file == tensor.file) {
      WeightRange& last = ranges.back();
      const std::uint64_t end = last.offset + last.bytes;
      // GGUF's tensors come as they lie in the file, so that nothing but padding can be between them.
      if (tensor.offset == end || (format == WeightFormat::gguf && tensor.offset > end)) {
        last.bytes = tensor.offset + tensor.bytes - last.offset;
        continue;
      }
    }
    ranges.push_back({tensor.file, tensor.offset, tensor.bytes});
  }
  return ranges;
}

base::Result<WeightFiles> open_weights(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error) || path.ends_with(".json")) return open_safetensors(path);
  THAW_ASSIGN_OR_RETURN(auto file, BufferedFile::open(path, kMagicBytes));
  std::array<char, kMagicBytes> magic{};
  THAW_RETURN_IF_ERROR(file.read(magic.data(), std::min(file.remaining(), kMagicBytes)));
  const std::string_view seen(magic.data(), magic.size());
  if (seen.starts_with("GGUF")) {
    THAW_ASSIGN_OR_RETURN(auto model, open_gguf_model(path));
    return from_gguf(std::move(model));
  }
  if (seen.back() == '{' || path.ends_with(".safetensors")) return open_safetensors(path);
  return base::Error{base::ErrorKind::invalid, "cannot read " + path + ": it is neither a GGUF nor a safetensors file"};
}

}  // namespace thaw::node
