#include "node/weights/residency.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace thaw::node {
namespace {

// linux/mman.h of 6.5; Debian 12's headers are older, its backported kernels are not.
constexpr long kCachestatCall = 451;
struct CachestatRange {
  std::uint64_t offset;
  std::uint64_t bytes;
};
struct Cachestat {
  std::uint64_t cached_pages;
  std::uint64_t dirty_pages;
  std::uint64_t writeback_pages;
  std::uint64_t evicted_pages;
  std::uint64_t recently_evicted_pages;
};

constexpr std::uint64_t kPagesAtOnce = 4096;  // of mincore: a byte each on the stack

std::uint64_t page_bytes() {
  static const auto bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

/// `refused_number`: errno of a call that failed.
std::optional<std::uint64_t> ask_cachestat(int fd, std::uint64_t offset, std::uint64_t bytes, int& refused_number) {
  CachestatRange range{offset, bytes};
  Cachestat found{};
  if (::syscall(kCachestatCall, fd, &range, &found, 0U) != 0) {
    refused_number = errno;
    return std::nullopt;
  }
  return std::min(bytes, found.cached_pages * page_bytes());
}

/// Whether mincore tells this user the truth; the kernel's own rule (can_do_mincore in mm/mincore.c).
bool mincore_is_honest(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return false;
  return ::geteuid() == 0 || status.st_uid == ::geteuid();
}

std::optional<std::uint64_t> ask_mincore(int fd, std::uint64_t offset, std::uint64_t bytes) {
  if (!mincore_is_honest(fd)) return std::nullopt;
  std::uint64_t resident = 0;
  for (std::uint64_t done = 0; done < bytes;) {
    const std::uint64_t step = std::min(bytes - done, kPagesAtOnce * page_bytes());
    // Never touched: nothing is read, and a file that is cut short meanwhile does no harm.
    void* const mapping = ::mmap(nullptr, step, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset + done));
    if (mapping == MAP_FAILED) return std::nullopt;
    std::array<unsigned char, kPagesAtOnce> pages;  // NOLINT(cppcoreguidelines-pro-type-member-init): mincore fills it
    const bool answered = ::mincore(mapping, step, pages.data()) == 0;
    ::munmap(mapping, step);
    if (!answered) return std::nullopt;
    const auto count = static_cast<std::ptrdiff_t>((step + page_bytes() - 1) / page_bytes());
    resident += static_cast<std::uint64_t>(std::count_if(pages.begin(), pages.begin() + count, [](unsigned char page) { return (page & 1U) != 0; })) *
                page_bytes();
    done += step;
  }
  return std::min(bytes, resident);
}

}  // namespace

std::optional<std::uint64_t> resident_bytes(int fd, std::uint64_t offset, std::uint64_t bytes, ResidencyCall call) {
  if (bytes == 0) return 0;  // to cachestat 0 means: up to the end of the file
  if (call == ResidencyCall::mincore) return ask_mincore(fd, offset, bytes);
  int refused_number = 0;
  const auto answer = ask_cachestat(fd, offset, bytes, refused_number);
  const bool unknown_here = refused_number == ENOSYS || refused_number == EOPNOTSUPP;
  if (answer || call == ResidencyCall::cachestat || !unknown_here) return answer;
  return ask_mincore(fd, offset, bytes);
}

}  // namespace thaw::node
