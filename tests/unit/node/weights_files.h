#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "node/sandbox/clock.h"
#include "node/sandbox/fd.h"
#include "node/weights/residency.h"

/// Files on a real disk, with known bytes, in the page cache or not.
namespace thaw::node::test {

/// Below /var/tmp, which is on a disk where /tmp often is not: a tmpfs has no page cache to be out of. Gone with the object.
class DiskDirectory {
 public:
  DiskDirectory() {
    std::string pattern = "/var/tmp/thaw-weights-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~DiskDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  DiskDirectory(const DiskDirectory&) = delete;
  DiskDirectory& operator=(const DiskDirectory&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// The byte at `offset` of every file written here.
inline char byte_at(std::uint64_t offset) { return static_cast<char>((offset * 2654435761ULL) >> 21U); }

/// Writes `bytes` bytes and waits until they are on the disk.
inline std::string write_weights(const std::string& path, std::uint64_t bytes) {
  std::vector<char> block(bytes);
  for (std::uint64_t i = 0; i < bytes; ++i) block[i] = byte_at(i);
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  std::uint64_t done = 0;
  while (fd && done < bytes) {
    const ssize_t wrote = ::write(fd.get(), block.data() + done, bytes - done);
    if (wrote <= 0) return {};
    done += static_cast<std::uint64_t>(wrote);
  }
  return fd && ::fsync(fd.get()) == 0 ? path : std::string();
}

/// A file of zeros that takes no disk: a hole, which the page cache holds like anything else.
inline std::string write_hole(const std::string& path, std::uint64_t bytes) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  return fd && ::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0 ? path : std::string();
}

inline std::uint64_t resident_bytes_of(const std::string& path, ResidencyCall call = ResidencyCall::best) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return resident_bytes(fd.get(), 0, std::filesystem::file_size(path), call).value_or(UINT64_MAX);
}

/// Takes a file out of the page cache, and nothing else. False where that is impossible (tmpfs).
inline bool make_cold(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const base::TimePoint give_up = now() + base::Seconds(10);
  while (now() < give_up) {  // pages that somebody holds at this moment stay
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    if (resident_bytes_of(path) == 0) return true;
    std::this_thread::yield();
  }
  return false;
}

}  // namespace thaw::node::test
