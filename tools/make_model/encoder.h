#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "make_model/shape.h"

namespace thaw::make_model {

/// GGUF's numbers of metadata types (gguf.h, enum gguf_type).
enum class ValueType : std::uint32_t { uint32 = 4, int32 = 5, float32 = 6, boolean = 7, string = 8, array = 9 };

/// Appends GGUF's little-endian encodings to a string, and counts the metadata keys.
class Encoder {
 public:
  template <typename T>
  void raw(T value) {
    static_assert(std::is_arithmetic_v<T>);
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    out_.append(bytes, sizeof value);
  }
  void string(std::string_view text) {
    raw<std::uint64_t>(text.size());
    out_.append(text);
  }
  void type(ValueType type) { raw(static_cast<std::uint32_t>(type)); }

  void key(std::string_view name, ValueType value_type) {
    string(name);
    type(value_type);
    ++keys_;
  }
  void number(std::string_view name, std::uint32_t value) {
    key(name, ValueType::uint32);
    raw(value);
  }
  void real(std::string_view name, float value) {
    key(name, ValueType::float32);
    raw(value);
  }
  void text(std::string_view name, std::string_view value) {
    key(name, ValueType::string);
    string(value);
  }
  void flag(std::string_view name, bool value) {
    key(name, ValueType::boolean);
    raw<std::uint8_t>(value ? 1 : 0);
  }
  void array(std::string_view name, ValueType element, std::size_t size) {
    key(name, ValueType::array);
    type(element);
    raw<std::uint64_t>(size);
  }

  [[nodiscard]] std::uint64_t keys() const { return keys_; }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
  std::uint64_t keys_ = 0;
};

/// Magic, version and counts, then both, padded up to the data section.
inline std::string join_header(Encoder& metadata, Encoder& list, std::uint64_t tensors) {
  Encoder start;
  start.raw<std::uint32_t>(0x46554747);  // "GGUF"
  start.raw<std::uint32_t>(3);
  start.raw<std::uint64_t>(tensors);
  start.raw(metadata.keys());
  std::string header = start.take() + metadata.take() + list.take();
  header.resize((header.size() + kAlignment_bytes - 1) / kAlignment_bytes * kAlignment_bytes);
  return header;
}

}  // namespace thaw::make_model
