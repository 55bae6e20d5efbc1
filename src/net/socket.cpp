#include "net/socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace thaw::net {
namespace {

constexpr std::uint32_t kInputEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;
constexpr int kBacklog = 4096;
constexpr int kAcceptsPerTurn = 64;  // others get their turn between two bursts
constexpr base::Duration kAcceptRetry = base::Millis(50);

// recv() and sendmsg() are cancellation points, which in a process with threads costs two atomic changes of state a
// call. No thread is ever cancelled here, and there are four such calls a request.
ssize_t receive(int fd, std::span<char> buffer) {
  return syscall(SYS_recvfrom, fd, buffer.data(), buffer.size(), 0, nullptr, nullptr);
}
ssize_t send_message(int fd, const msghdr& message) {
  return syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL);
}

}  // namespace

base::Result<std::unique_ptr<Socket>> Socket::adopt(Loop& loop, int fd) {
  std::unique_ptr<Socket> socket(new Socket(loop, fd));
  THAW_RETURN_IF_ERROR(loop.watch(fd, kInputEvents, socket.get()));
  return socket;
}

Socket::Socket(Loop& loop, int fd) : loop_(loop), fd_(fd), timer_(loop, [this] { timed_out(); }) {}

Socket::~Socket() {
  if (tls_ && !reset_) tls_->close_notify();
  loop_.unwatch(fd_, this);
  close(fd_);
}

void Socket::on_events(std::uint32_t events) {
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) hung_up_ = true;
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) may_read_ = true;
  if (writer_ && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) loop_.defer(std::exchange(writer_, nullptr));
  if (may_read_ && reader_) {
    loop_.defer(std::exchange(reader_, nullptr));
  } else if (hung_up_ && hang_up_handler_) {
    std::exchange(hang_up_handler_, nullptr)();
  }
}

void Socket::cancel() {
  if (!reader_ && !writer_) return;
  error_ = ECANCELED;
  if (reader_) loop_.defer(std::exchange(reader_, nullptr));
  if (writer_) loop_.defer(std::exchange(writer_, nullptr));
}

void Socket::timed_out() {
  cancel();
  if (error_ == ECANCELED) error_ = ETIMEDOUT;
}

int Socket::take_error() {
  return -std::exchange(error_, 0);
}

base::Status Socket::start_tls(const TlsContext& context) {
  THAW_ASSIGN_OR_RETURN(tls_, context.accept(fd_));
  return {};
}

Task<int> Socket::handshake() {
  while (true) {
    bool want_write = false;
    const int result = tls_->handshake(want_write);
    if (result != -EAGAIN) co_return result;
    int error = 0;
    if (want_write) {
      error = co_await writable();
    } else {
      may_read_ = hung_up_;  // what is there is read; after a hang-up no edge comes any more
      error = co_await readable();
    }
    if (error != 0) co_return error;
  }
}

/// What OpenSSL holds back makes no edge, so that the socket counts as drained only when it asks for more.
ssize_t Socket::read_tls(std::span<char> buffer) {
  const ssize_t count = tls_->read(buffer);
  if (count == -EAGAIN) may_read_ = false;
  return count;
}

void Socket::shutdown_write() {
  if (tls_) tls_->close_notify();
  ::shutdown(fd_, SHUT_WR);
}

void Socket::reset_on_close() {
  reset_ = true;
  const linger abort{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
}

ssize_t Socket::try_read(std::span<char> buffer) {
  if (!may_read_) return -EAGAIN;
  if (tls_) [[unlikely]] return read_tls(buffer);
  while (true) {
    const ssize_t count = receive(fd_, buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      if (errno == EAGAIN) may_read_ = false;
      return -errno;
    }
    // A short read has drained the socket: the next edge tells of more. After a hang-up no edge comes any more.
    if (static_cast<std::size_t>(count) < buffer.size() && !hung_up_) may_read_ = false;
    return count;
  }
}

bool Socket::ReadAwaiter::await_ready() {
  result = socket.try_read(buffer);
  return result != -EAGAIN;
}

ssize_t Socket::ReadAwaiter::await_resume() {
  if (result != -EAGAIN) return result;
  if (const int error = socket.take_error(); error != 0) return error;
  return socket.try_read(
      buffer);  // woken because there is something; -EAGAIN is left to the caller as a spurious wake-up
}

ssize_t Socket::try_write(std::span<const iovec> parts) {
  if (tls_) [[unlikely]] return tls_->write(parts);
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());  // sendmsg does not change it
  message.msg_iovlen = parts.size();
  while (true) {
    const ssize_t count = send_message(fd_, message);
    if (count < 0 && errno == EINTR) continue;
    return count < 0 ? -errno : count;
  }
}

void Socket::WritableAwaiter::await_suspend(std::coroutine_handle<> handle) {
  socket.writer_ = handle;
  socket.watching_output_ = true;
  socket.loop_.change(socket.fd_, kInputEvents | EPOLLOUT, &socket);
}

int Socket::WritableAwaiter::await_resume() {
  if (socket.watching_output_) {
    socket.watching_output_ = false;
    socket.loop_.change(socket.fd_, kInputEvents, &socket);
  }
  return socket.take_error();
}

Task<int> Socket::write_all(std::string_view data) {
  while (!data.empty()) {
    const iovec part{const_cast<char*>(data.data()), data.size()};
    const ssize_t count = try_write({&part, 1});
    if (count >= 0) {
      data.remove_prefix(static_cast<std::size_t>(count));
      continue;
    }
    if (count != -EAGAIN) co_return static_cast<int>(count);
    if (const int error = co_await writable(); error != 0) co_return error;
  }
  co_return 0;
}

base::Result<std::unique_ptr<Socket>> connect(Loop& loop, const Dialer& dialer) {
  THAW_ASSIGN_OR_RETURN(const int fd, dialer.connect());
  return Socket::adopt(loop, fd);
}

base::Result<std::unique_ptr<Listener>> Listener::open(Loop& loop, const std::string& host, std::uint16_t port,
                                                       Accepted accepted) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string where =
      (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port);
  if (const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); error != 0)
    return base::Error{base::ErrorKind::invalid, "cannot listen on " + where + ": " + gai_strerror(error)};
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, freeaddrinfo);
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return base::errno_error("cannot create a socket", errno);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, kBacklog) < 0) {
    const int error = errno;
    close(fd);
    base::Error failure = base::errno_error("cannot listen on " + where, error);
    if (error == EADDRINUSE) failure.message += "; stop the other server or choose another address with --listen";
    return failure;
  }
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size);
  const std::uint16_t bound_port =
      ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                        : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  std::unique_ptr<Listener> listener(new Listener(loop, fd, bound_port, std::move(accepted)));
  THAW_RETURN_IF_ERROR(loop.watch(fd, EPOLLIN, listener.get()));
  return listener;
}

Listener::Listener(Loop& loop, int fd, std::uint16_t port, Accepted accepted)
    : loop_(loop), fd_(fd), port_(port), accepted_(std::move(accepted)), retry_(loop, [this] { resume_accepting(); }) {}

Listener::~Listener() {
  loop_.unwatch(fd_, this);
  close(fd_);
}

void Listener::on_events(std::uint32_t /*events*/) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    const int fd = accept4(fd_, reinterpret_cast<sockaddr*>(&address), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        loop_.change(fd_, 0, this);
        retry_.arm(loop_.now() + kAcceptRetry);
      }
      return;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char host[NI_MAXHOST] = "";
    getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
    accepted_(fd, host);
  }
}

void Listener::resume_accepting() {
  loop_.change(fd_, EPOLLIN, this);
}

}  // namespace thaw::net
