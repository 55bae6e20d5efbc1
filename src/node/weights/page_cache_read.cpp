#include "node/weights/page_cache_read.h"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace thaw::node {
namespace {

constexpr std::uint64_t kHugePageBytes = 2ULL << 20;
constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ of 5.14, where the C library's headers do not know it

/// Before 5.18 a fault in a mapping of a file does not read a huge page's worth, with or without MADV_HUGEPAGE.
bool kernel_reads_huge_pages() {
  utsname name{};
  int major = 0;
  int minor = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2) return false;
  return major > 5 || (major == 5 && minor >= 18);
}

/// An address range that begins at a huge page, with a part of a file in it for as long as it lives.
class Window {
 public:
  Window(int fd, std::uint64_t offset, std::uint64_t bytes) : reserved_bytes_(bytes + kHugePageBytes), bytes_(bytes) {
    reserved_ = ::mmap(nullptr, reserved_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved_ == MAP_FAILED) return;
    const auto first = reinterpret_cast<std::uintptr_t>(reserved_);
    char* const aligned = static_cast<char*>(reserved_) + (kHugePageBytes - first % kHugePageBytes) % kHugePageBytes;
    mapping_ = ::mmap(aligned, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(offset));
  }
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;
  ~Window() {
    const int number = errno;
    if (reserved_ != MAP_FAILED) ::munmap(reserved_, reserved_bytes_);
    errno = number;
  }

  [[nodiscard]] bool advise(int advice) const {
    return mapping_ != MAP_FAILED && ::madvise(mapping_, bytes_, advice) == 0;
  }

 private:
  std::uint64_t reserved_bytes_;
  std::uint64_t bytes_;
  void* reserved_ = MAP_FAILED;
  void* mapping_ = MAP_FAILED;
};

/// MADV_RANDOM: what is read is exactly the huge page in which the fault is. Otherwise the kernel reads on behind it,
/// in small pages, and thereby keeps huge ones from forming there.
bool map(int fd, std::uint64_t offset, std::uint64_t bytes) {
  const Window window(fd, offset, bytes);
  return window.advise(MADV_HUGEPAGE) && window.advise(MADV_RANDOM) && window.advise(kPopulateRead);
}

bool send(int fd, int null_fd, std::uint64_t offset, std::uint64_t bytes) {
  ::readahead(fd, static_cast<off64_t>(offset), bytes);  // a wish
  auto at = static_cast<off_t>(offset);
  const auto end = static_cast<off_t>(offset + bytes);
  while (at < end) {
    const ssize_t moved = ::sendfile(null_fd, fd, &at, static_cast<std::size_t>(end - at));
    if (moved == 0) return true;
    if (moved < 0 && errno != EINTR) return false;
  }
  return true;
}

}  // namespace

PageCacheReader::PageCacheReader(PageCacheWay way)
    : mapping_(way == PageCacheWay::map || (way == PageCacheWay::best && kernel_reads_huge_pages())),
      null_fd_(::open("/dev/null", O_WRONLY | O_CLOEXEC)) {}

bool PageCacheReader::bring_in(int fd, std::uint64_t offset, std::uint64_t bytes) const {
  // Whatever kept it from being mapped (no huge pages, no mappings on this file system, cut short, a bad disk), reading
  // is possible or says why not.
  return (mapping_ && map(fd, offset, bytes)) || send(fd, null_fd_.get(), offset, bytes);
}

}  // namespace thaw::node
