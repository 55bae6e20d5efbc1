#include "node/weights/read_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>

#include "base/units.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kHugePageBytes = 2ULL << 20;
constexpr std::uint64_t kMaxBytes = 1ULL << 46;  // an address space

}  // namespace

base::Result<ReadMemory> ReadMemory::allocate(std::uint64_t bytes) {
  if (bytes == 0 || bytes > kMaxBytes)
    return base::Error{base::ErrorKind::invalid, "cannot allocate " + base::format_bytes(bytes) + " to read into"};
  // Older kernels place mappings anywhere, and a huge page needs its boundaries: ask for more, and give back what lies
  // around.
  const std::uint64_t whole_bytes = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  void* const mapping =
      ::mmap(nullptr, whole_bytes + kHugePageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED)
    return base::errno_error("cannot allocate " + base::format_bytes(bytes) + " to read into", errno);
  auto* const first = static_cast<std::byte*>(mapping);
  const std::uint64_t before_bytes =
      (kHugePageBytes - reinterpret_cast<std::uintptr_t>(first) % kHugePageBytes) % kHugePageBytes;
  std::byte* const begin = first + before_bytes;
  if (before_bytes > 0) ::munmap(first, before_bytes);
  ::munmap(begin + whole_bytes, kHugePageBytes - before_bytes);
  ::madvise(begin, whole_bytes, MADV_HUGEPAGE);  // a wish; small pages do as well
  return ReadMemory({begin, bytes});
}

ReadMemory::~ReadMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace thaw::node
