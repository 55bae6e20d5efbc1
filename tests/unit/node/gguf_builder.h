#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <unistd.h>

namespace thaw::node::testing {

/// A directory of its own under the system's temporary one, gone with the object.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "thaw-unit-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const std::string& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

/// Writes GGUF bytes, right or wrong ones, as a test asks.
class GgufBuilder {
 public:
  std::uint32_t version = 3;
  std::string magic = "GGUF";

  template <typename T>
  static std::string raw(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
  }
  static std::string raw_string(const std::string& text) { return raw<std::uint64_t>(text.size()) + text; }

  GgufBuilder& value(const std::string& key, std::uint32_t type, const std::string& bytes) {
    metadata_ += raw_string(key) + raw(type) + bytes;
    ++keys_;
    return *this;
  }
  GgufBuilder& number(const std::string& key, std::uint32_t number) { return value(key, 4, raw(number)); }
  GgufBuilder& text(const std::string& key, const std::string& text) { return value(key, 8, raw_string(text)); }
  GgufBuilder& strings(const std::string& key, const std::vector<std::string>& texts) {
    std::string bytes = raw<std::uint32_t>(8) + raw<std::uint64_t>(texts.size());
    for (const std::string& element : texts) bytes += raw_string(element);
    return value(key, 9, bytes);
  }
  GgufBuilder& tensor_raw(const std::string& name, const std::vector<std::uint64_t>& shape, std::uint32_t type, std::uint64_t offset) {
    infos_ += raw_string(name) + raw(static_cast<std::uint32_t>(shape.size()));
    for (const std::uint64_t dimension : shape) infos_ += raw(dimension);
    infos_ += raw(type) + raw(offset);
    ++tensors_;
    return *this;
  }
  /// An F16 tensor, placed behind the ones before.
  GgufBuilder& tensor(const std::string& name, std::uint64_t rows, std::uint64_t columns) {
    tensor_raw(name, {columns, rows}, 1, data_bytes_);
    data_bytes_ += (rows * columns * 2 + 31) / 32 * 32;
    return *this;
  }
  /// The data section need not be written: a sparse file does.
  [[nodiscard]] std::string header() const {
    std::string bytes = magic + raw(version) + raw(tensors_) + raw(keys_) + metadata_ + infos_;
    bytes.resize((bytes.size() + 31) / 32 * 32);
    return bytes;
  }
  [[nodiscard]] std::uint64_t data_bytes() const { return data_bytes_; }
  void write(const std::string& path) const {
    const std::string bytes = header();
    write_file(path, bytes);
    std::filesystem::resize_file(path, bytes.size() + data_bytes_);
  }

 private:
  std::string metadata_;
  std::string infos_;
  std::uint64_t keys_ = 0;
  std::uint64_t tensors_ = 0;
  std::uint64_t data_bytes_ = 0;
};

/// A model as `llama` architecture declares it.
inline GgufBuilder llama_model(std::uint32_t layers = 2, std::uint32_t width = 64, std::uint32_t context = 2048, std::size_t vocabulary = 32) {
  GgufBuilder builder;
  builder.text("general.architecture", "llama").number("llama.block_count", layers).number("llama.context_length", context);
  builder.number("llama.embedding_length", width).number("llama.feed_forward_length", width * 4).number("llama.attention.head_count", 8);
  builder.number("llama.attention.head_count_kv", 4);
  std::vector<std::string> tokens(vocabulary);
  for (std::size_t i = 0; i < vocabulary; ++i) tokens[i] = "t" + std::to_string(i);
  builder.strings("tokenizer.ggml.tokens", tokens).tensor("token_embd.weight", vocabulary, width);
  return builder;
}

}  // namespace thaw::node::testing
