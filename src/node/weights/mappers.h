#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

/// The problem: a page that a process maps does not leave the page cache when it is told to, and the kernel says
/// nothing about it. Whoever wants pages to leave must know who maps them. Stateless; any thread; blocking (reads
/// /proc/PID/maps of every process: about 0.1 ms each).
namespace thaw::node {

/// A stretch of a process's address space that shows one of the files.
struct Mapping {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
};

struct Mapper {
  pid_t pid = 0;
  std::vector<Mapping> mappings;  ///< never empty
};

/// Every process of this pid namespace that maps one of the files, whatever path it opened it by (bind mounts, other
/// mount namespaces), by pid. Processes that this user may not look into are left out, so ask residency afterwards. A
/// file that cannot be looked at has no mappers.
std::vector<Mapper> find_mappers(const std::vector<std::string>& files);

}  // namespace thaw::node
