#include "node/weights/read_memory.h"

#include <sys/mman.h>

#include <cerrno>


#include "base/units.h"

namespace thaw::node {

base::Result<ReadMemory> ReadMemory::allocate(std::uint64_t bytes) {
  void* const mapping = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED)
    return base::errno_error("cannot allocate " + base::format_bytes(bytes) + " to read into", errno);
  ::madvise(mapping, bytes, MADV_HUGEPAGE);  // a wish; small pages do as well
  return ReadMemory({static_cast<std::byte*>(mapping), bytes});
}

ReadMemory::~ReadMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace thaw::node
