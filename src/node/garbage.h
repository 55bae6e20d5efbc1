#pragma once

#include <cstdint>
#include <string>

namespace thaw::node {

/// Something of a store that nobody needs any more.
struct Garbage {
  std::string what;  ///< "image docker://… (sha256:…)", "layer sha256:…", "a part of FILE", a source, a digest
  std::uint64_t bytes = 0;
};

}  // namespace thaw::node
