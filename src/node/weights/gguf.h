#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"

/// The problem: a GGUF file's header says what a model needs (layers, heads, context, where each tensor lies), but the file comes from anywhere
/// and nothing in it can be trusted. Read here: versions 2 and 3, little-endian, as described in llama.cpp's ggml/include/gguf.h.
/// Stateless; any thread; blocking (reads the header only: some MB for a big vocabulary, and skips over what nobody asks for).
namespace thaw::node {

/// What a reader accepts at most. llama.cpp's own bounds are wider, but for the names of tensors; no real model comes near these.
constexpr std::uint64_t kMaxGgufHeaderBytes = 256ULL << 20;
constexpr std::uint64_t kMaxGgufKeptBytes = 64ULL << 20;    ///< of keys, strings and numbers, as they lie in memory
constexpr std::uint64_t kMaxGgufKeys = 65'536;
constexpr std::uint64_t kMaxGgufTensors = 262'144;
constexpr std::uint64_t kMaxGgufTensorNameBytes = 63;       ///< GGML_MAX_NAME - 1 in ggml/include/ggml.h
constexpr std::uint64_t kMaxGgufParts = 1'000;

/// An array in the metadata: its numbers are kept only when it is short (per-layer values); of the vocabulary only the size is.
struct GgufArray {
  static constexpr std::uint64_t kMaxKeptNumbers = 4'096;
  std::uint64_t count = 0;
  std::vector<double> numbers;  ///< empty for strings and long arrays
};

/// A string longer than this is not kept (chat templates are tens of KB); its key is there with an empty value.
constexpr std::uint64_t kMaxKeptStringBytes = 1ULL << 20;

using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string, GgufArray>;

struct GgufTensor {
  std::string name;
  std::uint32_t type = 0;                  ///< ggml_type
  std::array<std::uint64_t, 4> shape{1, 1, 1, 1};
  std::uint64_t offset = 0;                ///< from the start of the file
  std::uint64_t bytes = 0;
};

/// One file's header.
struct GgufHeader {
  std::string path;
  std::uint32_t version = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t data_offset = 0;           ///< where the first tensor's bytes may lie
  std::map<std::string, GgufValue> metadata;
  std::vector<GgufTensor> tensors;         ///< in the file's order, one behind the other without overlap; no name twice

  /// Any integer (or bool) that is not negative; nothing when the key is absent or of another kind.
  [[nodiscard]] std::optional<std::uint64_t> number(const std::string& key) const;
  /// Any integer or real.
  [[nodiscard]] std::optional<double> real(const std::string& key) const;
  [[nodiscard]] std::string text(const std::string& key) const;               ///< empty when absent
  [[nodiscard]] const GgufArray* array(const std::string& key) const;         ///< null when absent
};

/// Reads and checks one file's header: everything in it lies inside the file, no count or size overflows.
/// Errors: not_found, denied, io, or invalid with what is wrong and where.
base::Result<GgufHeader> read_gguf_header(const std::string& path);

/// Name of a ggml_type ("Q4_0"), or "type N" when this release does not know it.
std::string gguf_type_name(std::uint32_t type);

/// Whether a ggml_type is of blocks of small numbers and not of single ones (F16, BF16, I32 …). Types that this release does not know are.
bool gguf_type_is_quantised(std::uint32_t type);

/// Bytes of `elements` values of a ggml_type; nothing when the type is unknown, elements are no whole number of blocks, or it overflows.
std::optional<std::uint64_t> gguf_type_bytes(std::uint32_t type, std::uint64_t elements);

/// A model: one file, or the parts of a split one (NAME-00001-of-00003.gguf …), the first part first.
struct GgufModel {
  std::vector<GgufHeader> parts;

  [[nodiscard]] const GgufHeader& head() const { return parts.front(); }
  [[nodiscard]] std::uint64_t file_bytes() const;
  [[nodiscard]] std::uint64_t tensor_bytes() const;
  [[nodiscard]] std::vector<std::string> files() const;
};

/// `path`: the file, or the first part of a split model; the other parts lie beside it. Refuses parts that do not belong together: another count,
/// another number, a tensor in two of them, or fewer tensors in all than the first part says.
base::Result<GgufModel> open_gguf_model(const std::string& path);

}  // namespace thaw::node
