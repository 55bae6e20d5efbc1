#include "node/sandbox/pipes.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace thaw::node {
namespace {

constexpr int kControlBuffer_bytes = 512 * 1024;   // twice what thaw-init takes
constexpr std::size_t kMaxRead_bytes = 64 * 1024;  // a pipe's default capacity

}  // namespace

base::Result<FdPair> make_control_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return base::errno_error("cannot make a socket pair", errno);
  FdPair pair{Fd(ends[0]), Fd(ends[1])};
  const int size = kControlBuffer_bytes;
  // As root past the host's limit; without, as far as the host allows.
  if (::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
    ::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  return pair;
}

base::Result<FdPair> make_output_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return base::errno_error("cannot make a pipe", errno);
  FdPair pair{Fd(ends[0]), Fd(ends[1])};
  if (::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return base::errno_error("cannot make a pipe non-blocking", errno);
  return pair;
}

base::Result<FdPair> make_feed_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return base::errno_error("cannot make a pipe", errno);
  FdPair pair{Fd(ends[1]), Fd(ends[0])};
  if (::fcntl(ends[1], F_SETPIPE_SZ, kControlBuffer_bytes) < 0)
    return base::errno_error("cannot enlarge a pipe", errno);
  if (::fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0) return base::errno_error("cannot make a pipe non-blocking", errno);
  return pair;
}

std::string read_available(int fd) {
  std::string text(kMaxRead_bytes, '\0');
  std::size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t got = ::read(fd, text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    filled += static_cast<std::size_t>(got);
  }
  text.resize(filled);
  return text;
}

}  // namespace thaw::node
