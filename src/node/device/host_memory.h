#pragma once

#include <cstdint>
#include <string>

namespace thaw::node {

/// What memory there is for thaw and its instances, in bytes.
struct HostMemory {
  std::uint64_t total_bytes = 0;      ///< the machine's (MemTotal)
  std::uint64_t available_bytes = 0;  ///< what could be had now without swapping (MemAvailable)
  std::uint64_t limit_bytes = 0;      ///< the lowest memory limit on thaw's own cgroup and its ancestors; total_bytes without one

  [[nodiscard]] std::uint64_t usable_bytes() const { return limit_bytes < total_bytes ? limit_bytes : total_bytes; }
};

/// Reads /proc and the cgroup file system, v2 or v1. `root` goes before every path, for tests.
HostMemory read_host_memory(const std::string& root = "");

/// "AMD EPYC 7763 64-Core Processor"; "CPU" when the kernel does not say.
std::string cpu_name(const std::string& root = "");

}  // namespace thaw::node
