#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>

#include "node/engine/engine.h"

namespace thaw::node {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kRequest = "GET /health HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n";
constexpr std::size_t kStatusBytes = sizeof("HTTP/1.1 200") - 1;

class Socket {
 public:
  Socket() : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {}
  ~Socket() { if (fd_ >= 0) ::close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

/// False when the deadline comes first.
bool wait_for(int fd, short events, Clock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(left, 60'000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

bool send_request(int fd, Clock::time_point deadline) {
  std::string_view rest = kRequest;
  while (!rest.empty()) {
    const ssize_t sent = ::send(fd, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      rest.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      if (!wait_for(fd, POLLOUT, deadline)) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

/// The answer's status, or 0 when there was none by the deadline.
int read_status(int fd, Clock::time_point deadline) {
  std::array<char, kStatusBytes> line{};
  std::size_t have = 0;
  while (have < line.size()) {
    const ssize_t got = ::recv(fd, line.data() + have, line.size() - have, 0);
    if (got > 0) {
      have += static_cast<std::size_t>(got);
    } else if (got < 0 && errno == EAGAIN) {
      if (!wait_for(fd, POLLIN, deadline)) return 0;
    } else if (got == 0 || errno != EINTR) {
      return 0;
    }
  }
  const std::string_view text(line.data(), line.size());
  if (!text.starts_with("HTTP/1.")) return -1;
  int status = 0;
  for (const char c : text.substr(9)) {
    if (c < '0' || c > '9') return -1;
    status = status * 10 + (c - '0');
  }
  return status;
}

}  // namespace

base::Result<Readiness> probe_ready(const std::string& socket_path, base::Duration timeout) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.empty() || socket_path.size() >= sizeof address.sun_path) {
    return base::Error{base::ErrorKind::invalid, "cannot reach an engine at \"" + socket_path + "\": a Unix socket's path has 1 to " +
                                                     std::to_string(sizeof address.sun_path - 1) + " bytes; use a shorter data directory"};
  }
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  const Clock::time_point deadline = Clock::now() + timeout;
  const Socket socket;
  if (socket.fd() < 0) return base::errno_error("cannot create a socket", errno);
  // Connecting to a Unix socket never waits: it is done, refused, or the backlog is full (EAGAIN), which is "not yet".
  if (::connect(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return Readiness::no;
  if (!send_request(socket.fd(), deadline)) return Readiness::no;
  switch (read_status(socket.fd(), deadline)) {
    case 200: return Readiness::yes;
    case 0: case 503: return Readiness::no;
    default: return Readiness::failed;
  }
}

}  // namespace thaw::node
