#include "audit/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace thaw::audit {

void Fd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

base::Result<std::string> read_small_file(const std::string& path, std::size_t max_bytes) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    const int code = errno;
    base::Error error = base::errno_error("cannot read " + path, code);
    if (code == ENOENT) error.kind = base::ErrorKind::not_found;
    return error;
  }
  std::string text(max_bytes + 1, '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t count = ::read(file.get(), text.data() + have, text.size() - have);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::errno_error("cannot read " + path, errno);
    if (count == 0) break;
    have += static_cast<std::size_t>(count);
  }
  if (have > max_bytes)
    return base::Error{base::ErrorKind::invalid, path + " is longer than " + std::to_string(max_bytes) + " bytes"};
  text.resize(have);
  return text;
}

base::Status write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::errno_error("cannot write " + path, errno);
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

base::Status sync_directory(const std::string& path) {
  const Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) return base::errno_error("cannot open " + path, errno);
  if (::fsync(directory.get()) != 0) return base::errno_error("cannot make " + path + " durable", errno);
  return {};
}

base::Status replace_file(const std::string& path, std::string_view text, mode_t mode) {
  const std::string fresh = path + ".new";
  (void)::unlink(fresh.c_str());  // of a start that was killed
  const Fd file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (file.get() < 0) return base::errno_error("cannot create " + fresh, errno);
  base::Status status = write_all(file.get(), text, fresh);
  if (status.ok() && ::fsync(file.get()) != 0) status = base::errno_error("cannot make " + fresh + " durable", errno);
  if (status.ok() && ::rename(fresh.c_str(), path.c_str()) != 0)
    status = base::errno_error("cannot put " + path + " in place", errno);
  if (!status.ok()) {
    (void)::unlink(fresh.c_str());
    return status;
  }
  return sync_directory(std::filesystem::path(path).parent_path().string());
}

}  // namespace thaw::audit
