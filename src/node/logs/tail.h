#pragma once

#include <cstdint>
#include <string>

namespace thaw::node {

/// The last `bytes` of a log: of the open file up to `end`, continued backwards into PATH.1. Begins at a line's start where it can.
std::string tail_over_files(const std::string& path, int fd, std::uint64_t end, std::size_t bytes);

}  // namespace thaw::node
