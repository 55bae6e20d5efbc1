#include "node/images/durable.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "node/sandbox/fd.h"

namespace thaw::node {
namespace {

base::Status sync(const std::string& path, int flags) {
  const Fd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd) return base::errno_error("cannot open " + path, errno);
  if (::fsync(fd.get()) != 0) return base::errno_error("cannot write " + path + " to disk", errno);
  return {};
}

}  // namespace

base::Status sync_file(const std::string& path) {
  return sync(path, O_RDONLY | O_NOFOLLOW);
}

base::Status sync_directory(const std::string& path) {
  return sync(path, O_RDONLY | O_DIRECTORY);
}

base::Status write_durably(const std::string& path, std::string_view text, unsigned mode) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd) return base::errno_error("cannot create " + path, errno);
  while (!text.empty()) {
    const ssize_t written = ::write(fd.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return base::errno_error("cannot write " + path, errno);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(fd.get()) != 0) return base::errno_error("cannot write " + path + " to disk", errno);
  return {};
}

}  // namespace thaw::node
