#include "net/dial.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace thaw::net {
namespace {

base::Result<int> connect_or_close(int fd, const sockaddr* address, socklen_t size, const base::Endpoint& endpoint) {
  if (::connect(fd, address, size) == 0 || errno == EINPROGRESS) return fd;
  const int error_number = errno;
  ::close(fd);
  return base::errno_error("cannot connect to " + to_string(endpoint), error_number);
}

bool same_file(int a, int b) {
  struct stat first {};
  struct stat second {};
  return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/// The socket at `path` itself, for a connect(2) by descriptor. An engine owns the directory in which its socket is: where that was, there may be a link to
/// somebody else's, or to a service of the host's, and a root that followed it would speak to that in the client's words.
base::Result<int> socket_file(const std::string& path) {
  const int file = ::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (file < 0) return base::errno_error("cannot connect to " + path, errno);
  struct stat info {};
  if (::fstat(file, &info) == 0 && S_ISSOCK(info.st_mode)) return file;
  ::close(file);
  return base::Error{base::ErrorKind::denied, "cannot connect to " + path + ": it is no socket; its owner put something else in its place"};
}

}  // namespace

base::Result<Dialer> Dialer::open(const base::Endpoint& endpoint) {
  Dialer dialer(endpoint);
  if (!endpoint.unix_path.empty()) {
    if (endpoint.unix_path.size() < sizeof(sockaddr_un::sun_path)) return dialer;
    return base::Error{base::ErrorKind::invalid, "cannot connect to " + endpoint.unix_path +
                                                     ": the path is longer than a Unix socket's may be (" +
                                                     std::to_string(sizeof(sockaddr_un::sun_path) - 1) +
                                                     " bytes); use a shorter data directory"};
  }
  dialer.namespace_ = ::open(endpoint.namespace_path.c_str(), O_RDONLY | O_CLOEXEC);
  if (dialer.namespace_ < 0)
    return base::errno_error("cannot open the network namespace " + endpoint.namespace_path, errno);
  dialer.home_ = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (dialer.home_ < 0) return base::errno_error("cannot open this process's network namespace", errno);
  dialer.at_home_ = same_file(dialer.namespace_, dialer.home_);
  return dialer;
}

Dialer::Dialer(Dialer&& other) noexcept
    : endpoint_(std::move(other.endpoint_)),
      namespace_(std::exchange(other.namespace_, -1)),
      home_(std::exchange(other.home_, -1)),
      at_home_(other.at_home_) {}

Dialer& Dialer::operator=(Dialer&& other) noexcept {
  std::swap(endpoint_, other.endpoint_);
  std::swap(namespace_, other.namespace_);
  std::swap(home_, other.home_);
  std::swap(at_home_, other.at_home_);
  return *this;
}

Dialer::~Dialer() {
  if (namespace_ >= 0) ::close(namespace_);
  if (home_ >= 0) ::close(home_);
}

base::Result<int> Dialer::socket_in_namespace() const {
  if (!at_home_ && ::setns(namespace_, CLONE_NEWNET) != 0)
    return base::errno_error("cannot enter the network namespace " + endpoint_.namespace_path, errno);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int error_number = errno;
  if (!at_home_ && ::setns(home_, CLONE_NEWNET) != 0) {
    // Every socket that this thread makes from here on would be an engine's neighbour instead of the host's. Nothing
    // can go on like that.
    std::perror("thaw: cannot return from an engine's network namespace");
    std::abort();
  }
  if (fd < 0) return base::errno_error("cannot create a socket", error_number);
  return fd;
}

base::Result<int> Dialer::connect() const {
  if (!endpoint_.unix_path.empty()) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    THAW_ASSIGN_OR_RETURN(const int file, socket_file(endpoint_.unix_path));
    std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", file);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    auto connected = fd < 0 ? base::Result<int>(base::errno_error("cannot create a socket", errno))
                            : connect_or_close(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address, endpoint_);
    ::close(file);
    return connected;
  }
  THAW_ASSIGN_OR_RETURN(const int fd, socket_in_namespace());
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(endpoint_.port);
  ::inet_pton(AF_INET, endpoint_.ipv4.c_str(), &address.sin_addr);
  return connect_or_close(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address, endpoint_);
}

}  // namespace thaw::net
