#include "node/weights/direct_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include <spdlog/spdlog.h>

#include "node/weights/said_once.h"

namespace thaw::node {

bool refuses_direct(int number) {
  return number == EINVAL || number == EOPNOTSUPP;
}

base::Error file_error(const std::string& what, const std::string& path, int number) {
  base::Error error = base::errno_error(what + " " + path, number);
  if (number == ENOENT || number == ENOTDIR) error.kind = base::ErrorKind::not_found;
  if (number == EACCES || number == EPERM) error.kind = base::ErrorKind::denied;
  return error;
}

base::Result<DirectFile> DirectFile::open(const std::string& path) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  DirectFile file;
  file.path_ = path;
  file.fd_ = Fd(::open(path.c_str(), kFlags | O_DIRECT));
  file.direct_ = static_cast<bool>(file.fd_);
  if (!file.fd_ && refuses_direct(errno)) file.fd_ = Fd(::open(path.c_str(), kFlags));
  if (!file.fd_) return file_error("cannot open", path, errno);
  struct stat status {};
  if (::fstat(file.fd(), &status) != 0) return file_error("cannot look at", path, errno);
  if (!S_ISREG(status.st_mode))
    return base::Error{base::ErrorKind::invalid, "cannot read " + path + ": it is no regular file"};
  // io_uring takes O_NONBLOCK seriously where a file system cannot promise not to block: each read would end in EAGAIN.
  if (::fcntl(file.fd(), F_SETFL, file.direct_ ? O_DIRECT : 0) != 0) return file_error("cannot set up", path, errno);
  file.bytes_ = static_cast<std::uint64_t>(status.st_size);
  file.device_ = status.st_dev;
  if (!file.direct_) file.go_buffered("its file system refuses direct I/O");
  return file;
}

std::uint64_t DirectFile::bytes_now() const {
  struct stat status {};
  return ::fstat(fd(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

void DirectFile::go_buffered(const std::string& why) {
  if (direct_) ::fcntl(fd(), F_SETFL, 0);
  direct_ = false;
  ::posix_fadvise(fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
  if (first_time_said("buffered reads of device " + std::to_string(device_)))
    spdlog::warn("{} and what else lies on its file system is read through the page cache, which is slower: {}", path_,
                 why);
}

}  // namespace thaw::node
