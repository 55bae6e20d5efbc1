#pragma once

#include <cstdint>
#include <string>

#include "node/images/digest.h"

namespace thaw::test {

/// Bytes that no compression or sparse file makes small; the same for the same count.
inline std::string noise(std::size_t bytes) {
  std::string text(bytes, '\0');
  std::uint64_t state = bytes + 1;
  for (char& c : text) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    c = static_cast<char>(state >> 56U);
  }
  return text;
}

inline std::string sha256_of(const std::string& bytes) {
  node::Sha256 digest;
  digest.add(bytes);
  return digest.finish();
}

}  // namespace thaw::test
