#include "server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace thaw::fake_engine {
namespace {

constexpr int kBacklog = 4096;
constexpr int kEventsPerRound = 512;
constexpr std::size_t kReceiveBytes = 64U << 10;
constexpr std::size_t kMaxInputBytes = kMaxHeadBytes + kMaxBodyBytes;

int listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, kBacklog) != 0) return -1;
  return fd;
}

int listen_tcp(const std::string& host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    errno = EINVAL;
    return -1;
  }
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  if (fd < 0) return -1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // inherited by what is accepted
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, kBacklog) != 0) return -1;
  return fd;
}

}  // namespace

Server::Server(const Options& options)
    : options_(options),
      sleeper_(options),
      adapters_(options),
      model_(options.map_model ? options.model_path : std::string()),
      ready_at_(Clock::now() + std::chrono::milliseconds(options.kind == Kind::vllm ? 0 : options.start_delay_ms)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

Server::~Server() {
  for (const auto& connection : connections_) {
    if (connection) ::close(connection->fd);
  }
  if (listener_ >= 0) ::close(listener_);
  ::close(epoll_);
}

bool Server::listen() {
  listener_ = options_.host.ends_with(".sock") ? listen_unix(options_.host) : listen_tcp(options_.host, options_.port);
  if (listener_ < 0) {
    std::fprintf(stderr, "fake-engine: cannot listen on %s: %s\n", options_.host.c_str(),
                 std::strerror(errno));  // NOLINT(concurrency-mt-unsafe): one thread
    return false;
  }
  watch(listener_, EPOLLIN);
  return true;
}

void Server::watch(int fd, std::uint32_t events) {
  if (options_.poll) return;  // asked anew every time
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
}

int Server::wait_for_events(epoll_event* events, int room) {
  return options_.poll ? poll_events(events, room) : ::epoll_wait(epoll_, events, room, wait_ms());
}

/// What epoll_wait() would say; its flags are poll's.
int Server::poll_events(epoll_event* events, int room) {
  std::vector<pollfd> polled{{listener_, POLLIN, 0}};
  for (const auto& c : connections_) {
    if (!c || c->closed) continue;
    const bool writes = c->blocked || c->out_sent < c->out.size();
    polled.push_back({c->fd, static_cast<short>(POLLIN | POLLRDHUP | (writes ? POLLOUT : 0)), 0});
  }
  if (::poll(polled.data(), polled.size(), wait_ms()) <= 0) return 0;
  int count = 0;
  for (const pollfd& one : polled) {
    if (one.revents == 0 || count == room) continue;
    events[count].events = static_cast<std::uint32_t>(one.revents);
    events[count++].data.fd = one.fd;
  }
  return count;
}

void Server::run() {
  std::array<epoll_event, kEventsPerRound> events{};
  while (true) {
    const int count = wait_for_events(events.data(), kEventsPerRound);
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (event.data.fd == listener_) accept_clients();
      else on_event(*connections_[static_cast<std::size_t>(event.data.fd)], event.events);
    }
    if (!timers_.empty()) run_timers();
    if (!ready_.empty()) run_ready();
    if (!closed_.empty()) reap();
  }
}

int Server::wait_ms() const {
  if (!ready_.empty()) return 0;
  if (timers_.empty()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(timers_.top().at - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

void Server::accept_clients() {
  for (int i = 0; i < kEventsPerRound; ++i) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    if (connections_.size() <= static_cast<std::size_t>(fd)) connections_.resize(static_cast<std::size_t>(fd) + 1);
    auto connection = std::make_unique<Connection>();
    connection->fd = fd;
    connections_[static_cast<std::size_t>(fd)] = std::move(connection);
    watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    ++stats_.connections;
  }
}

void Server::on_event(Connection& c, std::uint32_t events) {
  if (c.closed) return;
  if ((events & EPOLLIN) != 0) receive(c);
  if (c.closed) return;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) return close(c);
  if ((events & EPOLLOUT) != 0 && c.out_sent < c.out.size()) flush(c);
  if (!c.closed && c.blocked && c.out.empty()) {
    c.blocked = false;
    schedule(c, 0);
  }
}

void Server::receive(Connection& c) {
  static thread_local std::array<char, kReceiveBytes> buffer;
  while (true) {
    const ssize_t got = ::recv(c.fd, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) break;
    if (got <= 0) {
      if (!c.in.empty() && got == 0) serve_input(c);
      return close(c);
    }
    c.in.append(buffer.data(), static_cast<std::size_t>(got));
    if (c.in.size() > kMaxInputBytes) return close(c);
    if (static_cast<std::size_t>(got) < buffer.size()) break;  // a short read has emptied the socket
  }
  serve_input(c);
}

void Server::flush(Connection& c) {
  while (c.out_sent < c.out.size()) {
    const ssize_t sent = ::send(c.fd, c.out.data() + c.out_sent, c.out.size() - c.out_sent, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) return close(c);
    c.out_sent += static_cast<std::size_t>(sent);
  }
  c.out.clear();
  c.out_sent = 0;
  if (exiting_) ::_exit(1);
  if (c.close_when_flushed) close(c);
}

void Server::close(Connection& c) {
  if (c.closed) return;
  c.closed = true;
  if (c.answer) {
    ++stats_.cancelled;
    --stats_.active;
    c.answer.reset();
  }
  closed_.push_back(c.fd);
}

void Server::reap() {
  for (const int fd : closed_) {
    connections_[static_cast<std::size_t>(fd)].reset();
    ::close(fd);
  }
  closed_.clear();
}

void Server::schedule(Connection& c, std::int64_t delay_ms) {
  if (delay_ms <= 0) {
    if (!c.queued) ready_.push_back(c.fd);
    c.queued = true;
    return;
  }
  c.timer = ++last_timer_;
  timers_.push({Clock::now() + std::chrono::milliseconds(delay_ms), c.fd, c.timer});
}

void Server::run_timers() {
  const auto now = Clock::now();
  while (!timers_.empty() && timers_.top().at <= now) {
    const Timer timer = timers_.top();
    timers_.pop();
    Connection* c = connections_[static_cast<std::size_t>(timer.fd)].get();
    if (c != nullptr && !c->closed && c->timer == timer.number) step(*c);
  }
}

void Server::run_ready() {
  std::vector<int> round;
  round.swap(ready_);
  for (const int fd : round) {
    Connection* c = connections_[static_cast<std::size_t>(fd)].get();
    if (c == nullptr || !c->queued) continue;  // the number may belong to a newer client by now
    c->queued = false;
    if (!c->closed) step(*c);
  }
}

}  // namespace thaw::fake_engine
