#include "unit/cli/fake_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <stdexcept>

namespace thaw::cli {
namespace {

constexpr int kReadTimeout_ms = 5000;

/// A bound loopback socket and its port.
int bind_loopback(unsigned& port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (fd < 0 || bind(fd, generic, size) != 0 || getsockname(fd, generic, &size) != 0)
    throw std::runtime_error("cannot bind");
  port = ntohs(address.sin_port);
  return fd;
}

std::size_t content_length(const std::string& head) {
  const std::size_t at = head.find("Content-Length: ");
  return at == std::string::npos ? 0 : std::strtoul(head.c_str() + at + 16, nullptr, 10);
}

/// Reads up to the end of the body; false when the client went away.
bool read_request(int fd, FakeServer::Request& request) {
  std::string text;
  std::array<char, 4096> chunk{};
  while (true) {
    const std::size_t end = text.find("\r\n\r\n");
    if (end != std::string::npos && text.size() >= end + 4 + content_length(text.substr(0, end))) {
      request.head = text.substr(0, end);
      request.body = text.substr(end + 4);
      const std::size_t space = request.head.find(' ');
      request.method = request.head.substr(0, space);
      request.target = request.head.substr(space + 1, request.head.find(' ', space + 1) - space - 1);
      return true;
    }
    pollfd readable{fd, POLLIN, 0};
    if (poll(&readable, 1, kReadTimeout_ms) <= 0) return false;
    const ssize_t count = recv(fd, chunk.data(), chunk.size(), 0);
    if (count <= 0) return false;
    text.append(chunk.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace

void FakeServer::Connection::send(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void FakeServer::Connection::answer(int status, std::string_view body) const {
  send("HTTP/1.1 " + std::to_string(status) +
       " X\r\nContent-Type: application/json\r\nX-Request-ID: req-7\r\nContent-Length: " + std::to_string(body.size()) +
       "\r\nConnection: close\r\n\r\n" + std::string(body));
}

bool FakeServer::Connection::closed_by_client(int timeout_ms) const {
  pollfd readable{fd_, POLLIN | POLLRDHUP, 0};
  char byte = 0;
  return poll(&readable, 1, timeout_ms) > 0 && recv(fd_, &byte, 1, MSG_DONTWAIT) <= 0;
}

FakeServer::FakeServer(Handler handler)
    : handler_(std::move(handler)), listener_(bind_loopback(port_)), stop_(eventfd(0, EFD_CLOEXEC)) {
  if (stop_ < 0 || listen(listener_, 16) != 0) throw std::runtime_error("cannot listen");
  thread_ = std::thread([this] { serve(); });
}

FakeServer::~FakeServer() {
  const std::uint64_t one = 1;
  if (write(stop_, &one, sizeof one) != static_cast<ssize_t>(sizeof one)) std::abort();
  thread_.join();
  close(stop_);
  close(listener_);
}

void FakeServer::serve() {
  while (true) {
    std::array<pollfd, 2> waiting{{{listener_, POLLIN, 0}, {stop_, POLLIN, 0}}};
    poll(waiting.data(), waiting.size(), -1);
    if (waiting[1].revents != 0) return;
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    handle(fd);
    close(fd);
  }
}

void FakeServer::handle(int fd) {
  Request request;
  if (!read_request(fd, request)) return;
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
  }
  Connection connection(fd);
  handler_(request, connection);
}

std::vector<FakeServer::Request> FakeServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::string unreachable_url() {
  static unsigned port = 0;  // bound for the life of the process and never listening: connecting is refused
  static const int fd = bind_loopback(port);
  (void)fd;
  return "http://127.0.0.1:" + std::to_string(port);
}

}  // namespace thaw::cli
