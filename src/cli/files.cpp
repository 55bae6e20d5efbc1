#include "cli/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include <fmt/format.h>

#include "base/units.h"

namespace thaw::cli {

using base::Error;
using base::ErrorKind;

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

base::Result<std::string> read_text_file(const std::string& path, std::size_t max_bytes) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    const int number = errno;
    Error error = base::errno_error("cannot open " + path, number);
    if (number == ENOENT || number == ENOTDIR) error.kind = ErrorKind::not_found;
    return error;
  }
  return read_to_end(file.get(), path, max_bytes);
}

base::Result<std::string> read_to_end(int fd, const std::string& name, std::size_t max_bytes) {
  std::string text;
  std::array<char, 16384> chunk{};
  while (true) {
    const ssize_t count = read(fd, chunk.data(), chunk.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int number = errno;
      Error error = base::errno_error("cannot read " + name, number);
      if (number == EISDIR) error.kind = ErrorKind::invalid;
      return error;
    }
    if (count == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(count));
    if (text.size() > max_bytes)
      return Error{ErrorKind::invalid,
                   fmt::format("cannot read {}: longer than {}", name, base::format_bytes(max_bytes))};
  }
}

base::Status write_all(int fd, std::string_view text, const std::string& name) {
  while (!text.empty()) {
    const ssize_t count = write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::errno_error("cannot write " + name, errno);
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

}  // namespace thaw::cli
