#include "make_model/lora.h"

#include <cmath>
#include <fstream>
#include <vector>

#include <fmt/format.h>

#include "make_model/encoder.h"
#include "make_model/weights.h"

namespace thaw::make_model {
namespace {

using base::Error;
using base::ErrorKind;

struct Part {
  std::string name;
  std::uint64_t columns = 0, rows = 0, offset = 0;
  float deviation = 0;
};

std::vector<Part> parts_of(const LoraOptions& options) {
  std::vector<Part> parts;
  std::uint64_t offset = 0;
  const auto add = [&](std::string name, std::uint64_t columns, std::uint64_t rows, float deviation) {
    parts.push_back({std::move(name), columns, rows, offset, deviation});
    const std::uint64_t bytes = columns * rows * sizeof(float);
    offset += (bytes + kAlignment_bytes - 1) / kAlignment_bytes * kAlignment_bytes;
  };
  for (std::uint32_t layer = 0; layer < options.layers; ++layer)
    for (const char* tensor : {"attn_q", "attn_output"}) {
      const std::string name = fmt::format("blk.{}.{}.weight", layer, tensor);
      add(name + ".lora_a", options.width, options.rank, 1 / std::sqrt(static_cast<float>(options.width)));
      add(name + ".lora_b", options.rank, options.width, options.scale / std::sqrt(static_cast<float>(options.rank)));
    }
  return parts;
}

std::string header_of(const LoraOptions& options, const std::vector<Part>& parts) {
  Encoder metadata;
  metadata.text("general.type", "adapter");
  metadata.text("general.architecture", options.architecture);
  metadata.text("general.name", options.out.stem().string());
  metadata.text("adapter.type", "lora");
  metadata.real("adapter.lora.alpha", static_cast<float>(options.rank));
  Encoder list;
  for (const Part& part : parts) {
    list.string(part.name);
    list.raw<std::uint32_t>(2);
    list.raw(part.columns);
    list.raw(part.rows);
    list.raw<std::uint32_t>(0);  // F32
    list.raw(part.offset);
  }
  return join_header(metadata, list, parts.size());
}

}  // namespace

base::Result<std::uint64_t> write_lora(const LoraOptions& options) {
  constexpr std::uint32_t kMaxLayers = 1024, kMaxWidth = 65'536, kMaxRank = 512;
  if (options.layers < 1 || options.layers > kMaxLayers || options.width < 1 || options.width > kMaxWidth ||
      options.rank < 1 || options.rank > kMaxRank)
    return Error{
        ErrorKind::invalid,
        fmt::format("cannot make an adapter of rank {} for {} layers of width {}; at most {}, {} and {} are possible",
                    options.rank, options.layers, options.width, kMaxRank, kMaxLayers, kMaxWidth)};
  const std::vector<Part> parts = parts_of(options);
  std::string bytes = header_of(options, parts);
  const std::size_t data = bytes.size();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    bytes.resize(data + part.offset, '\0');
    for (std::uint64_t n = 0; n < part.columns * part.rows; ++n) {
      const float value = part.deviation * uniform(options.seed, i, n);
      bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  }
  bytes.resize((bytes.size() + kAlignment_bytes - 1) / kAlignment_bytes * kAlignment_bytes, '\0');
  std::ofstream file(options.out, std::ios::binary | std::ios::trunc);
  if (!file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush())
    return Error{ErrorKind::io, fmt::format("cannot write {}; is there such a directory, and room on its disk?",
                                            options.out.string())};
  return bytes.size();
}

}  // namespace thaw::make_model
