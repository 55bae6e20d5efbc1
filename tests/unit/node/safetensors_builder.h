#pragma once

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "unit/node/gguf_builder.h"

namespace thaw::node::testing {

/// Writes safetensors bytes, right or wrong ones, as a test asks.
class SafetensorsBuilder {
 public:
  /// Anything as a member of the header's object.
  SafetensorsBuilder& member(const std::string& name, const std::string& json) {
    members_ += fmt::format("{}\"{}\":{}", members_.empty() ? "" : ",", name, json);
    return *this;
  }
  SafetensorsBuilder& tensor_raw(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return member(name, fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{}]}})", dtype, shape, offsets));
  }
  /// A BF16 tensor, placed behind the ones before.
  SafetensorsBuilder& tensor(const std::string& name, std::uint64_t rows, std::uint64_t columns) {
    const std::uint64_t begin = data_bytes_;
    data_bytes_ += rows * columns * 2;
    return tensor_raw(name, "BF16", fmt::format("{},{}", rows, columns), fmt::format("{},{}", begin, data_bytes_));
  }
  SafetensorsBuilder& data(std::uint64_t bytes) {
    data_bytes_ = bytes;
    return *this;
  }
  /// As writers do it: padded with spaces to a multiple of 8.
  [[nodiscard]] std::string json() const {
    std::string text = "{" + members_ + "}";
    text.resize((text.size() + 7) / 8 * 8, ' ');
    return text;
  }
  [[nodiscard]] std::string header() const { return with_length(json()); }
  static std::string with_length(const std::string& json) { return GgufBuilder::raw<std::uint64_t>(json.size()) + json; }
  /// The data are a hole.
  void write(const std::string& path) const {
    const std::string bytes = header();
    write_file(path, bytes);
    std::filesystem::resize_file(path, bytes.size() + data_bytes_);
  }

 private:
  std::string members_;
  std::uint64_t data_bytes_ = 0;
};

/// An index's JSON: which tensor is in which shard.
inline std::string safetensors_index(const std::vector<std::pair<std::string, std::string>>& weight_map) {
  std::string map;
  for (const auto& [tensor, shard] : weight_map) map += fmt::format("{}\"{}\":\"{}\"", map.empty() ? "" : ",", tensor, shard);
  return R"({"metadata":{"total_size":1234,"nested":[{"any":null}]},"weight_map":{)" + map + "}}";
}

}  // namespace thaw::node::testing
