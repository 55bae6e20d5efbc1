#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thaw::node {

/// SHA-256 (FIPS 180-4), in pieces. One thread at a time.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void add(std::string_view bytes);
  /// Lower-case hex, 64 characters; call once, last.
  [[nodiscard]] std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Of a whole file, read once from front to back without keeping it in the page cache beyond what was there. Blocking,
/// some 1 to 2 GB/s where the CPU has instructions for it. Fails with io.
base::Result<std::string> sha256_of_file(const std::string& path);

}  // namespace thaw::node
