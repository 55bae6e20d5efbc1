#include <algorithm>

#include "node/weights/gguf.h"

namespace thaw::node {
namespace {

struct TypeTraits {
  std::uint32_t type;
  const char* name;
  std::uint32_t block_elements;
  std::uint32_t block_bytes;
};

// ggml/include/ggml.h (enum ggml_type) and the block structures' sizes in ggml/src/ggml-common.h, llama.cpp v0.5.0.
constexpr std::array kTypes{
    TypeTraits{0, "F32", 1, 4},          TypeTraits{1, "F16", 1, 2},        TypeTraits{2, "Q4_0", 32, 18},
    TypeTraits{3, "Q4_1", 32, 20},       TypeTraits{6, "Q5_0", 32, 22},     TypeTraits{7, "Q5_1", 32, 24},
    TypeTraits{8, "Q8_0", 32, 34},       TypeTraits{9, "Q8_1", 32, 36},     TypeTraits{10, "Q2_K", 256, 84},
    TypeTraits{11, "Q3_K", 256, 110},    TypeTraits{12, "Q4_K", 256, 144},  TypeTraits{13, "Q5_K", 256, 176},
    TypeTraits{14, "Q6_K", 256, 210},    TypeTraits{15, "Q8_K", 256, 292},  TypeTraits{16, "IQ2_XXS", 256, 66},
    TypeTraits{17, "IQ2_XS", 256, 74},   TypeTraits{18, "IQ3_XXS", 256, 98}, TypeTraits{19, "IQ1_S", 256, 50},
    TypeTraits{20, "IQ4_NL", 32, 18},    TypeTraits{21, "IQ3_S", 256, 110}, TypeTraits{22, "IQ2_S", 256, 82},
    TypeTraits{23, "IQ4_XS", 256, 136},  TypeTraits{24, "I8", 1, 1},        TypeTraits{25, "I16", 1, 2},
    TypeTraits{26, "I32", 1, 4},         TypeTraits{27, "I64", 1, 8},       TypeTraits{28, "F64", 1, 8},
    TypeTraits{29, "IQ1_M", 256, 56},    TypeTraits{30, "BF16", 1, 2},      TypeTraits{34, "TQ1_0", 256, 54},
    TypeTraits{35, "TQ2_0", 256, 66},    TypeTraits{39, "MXFP4", 32, 17},   TypeTraits{40, "NVFP4", 64, 36},
    TypeTraits{41, "Q1_0", 128, 18},     TypeTraits{42, "Q2_0", 64, 18},
};

const TypeTraits* find_type(std::uint32_t type) {
  const auto* found = std::find_if(kTypes.begin(), kTypes.end(), [type](const TypeTraits& t) { return t.type == type; });
  return found == kTypes.end() ? nullptr : found;
}

}  // namespace

std::string gguf_type_name(std::uint32_t type) {
  const TypeTraits* traits = find_type(type);
  return traits != nullptr ? traits->name : "type " + std::to_string(type);
}

bool gguf_type_is_quantised(std::uint32_t type) {
  const TypeTraits* traits = find_type(type);
  return traits == nullptr || traits->block_elements > 1;
}

std::optional<std::uint64_t> gguf_type_bytes(std::uint32_t type, std::uint64_t elements) {
  const TypeTraits* traits = find_type(type);
  if (traits == nullptr || elements % traits->block_elements != 0) return std::nullopt;
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(elements / traits->block_elements, std::uint64_t{traits->block_bytes}, &bytes)) return std::nullopt;
  return bytes;
}

}  // namespace thaw::node
