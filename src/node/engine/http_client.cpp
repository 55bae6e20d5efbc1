#include "node/engine/http_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "base/endpoint.h"
#include "net/dial.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/fd.h"

namespace thaw::node {
namespace {

constexpr int kTurn_ms = 50;  // of waiting; then somebody may have asked to stop

using base::Error;
using base::ErrorKind;

base::Result<Fd> connect_to(const std::string& address) {
  THAW_ASSIGN_OR_RETURN(const base::Endpoint endpoint, base::parse_endpoint(address));
  THAW_ASSIGN_OR_RETURN(const net::Dialer dialer, net::Dialer::open(endpoint));
  const auto fd = dialer.connect();
  if (!fd.ok()) return Error{ErrorKind::unavailable, "nobody listens: " + fd.error().message};
  return Fd(*fd);
}

/// One connection and how long it may last.
class Exchange {
 public:
  Exchange(Fd fd, base::TimePoint deadline, const std::stop_token& stop)
      : fd_(std::move(fd)), deadline_(deadline), stop_(stop) {}

  base::Status send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent > 0)
        text.remove_prefix(static_cast<std::size_t>(sent));
      else if (errno == EAGAIN)
        THAW_RETURN_IF_ERROR(wait(POLLOUT));
      else if (errno == ECONNREFUSED)
        return Error{ErrorKind::unavailable, "nobody listens"};
      else if (errno != EINTR)
        return base::errno_error("the engine does not take a request", errno);
    }
    return {};
  }

  /// Tells the engine that nothing more comes, and waits until it has closed as well.
  base::Status close() {
    ::shutdown(fd_.get(), SHUT_WR);
    std::string ignored;
    for (;;) {
      THAW_ASSIGN_OR_RETURN(const bool more, receive(ignored));
      if (!more) return {};
      ignored.clear();
    }
  }

  /// Appends what comes; false at the end of the stream.
  base::Result<bool> receive(std::string& into) {
    std::array<char, 16384> chunk{};
    for (;;) {
      const ssize_t got = ::recv(fd_.get(), chunk.data(), chunk.size(), 0);
      if (got > 0) {
        into.append(chunk.data(), static_cast<std::size_t>(got));
        return true;
      }
      if (got == 0) return false;
      if (errno == EAGAIN)
        THAW_RETURN_IF_ERROR(wait(POLLIN));
      else if (errno != EINTR)
        return base::errno_error("the engine's answer broke off", errno);
    }
  }

 private:
  base::Status wait(short events) {
    for (;;) {
      if (stop_.stop_requested()) return Error{ErrorKind::unavailable, "cut short while the engine was being asked"};
      if (now() >= deadline_) return Error{ErrorKind::timeout, "the engine did not answer by the deadline"};
      struct pollfd entry {
        .fd = fd_.get(), .events = events, .revents = 0
      };
      if (::poll(&entry, 1, poll_ms(deadline_, kTurn_ms)) > 0) return {};
    }
  }

  Fd fd_;
  base::TimePoint deadline_;
  const std::stop_token& stop_;
};

/// The value of a header field, of a head that ends in an empty line.
std::optional<std::string_view> field(std::string_view head, std::string_view name) {
  for (std::size_t at = head.find("\r\n"); at != std::string_view::npos; at = head.find("\r\n", at + 2)) {
    const std::string_view line = head.substr(at + 2, head.find("\r\n", at + 2) - at - 2);
    if (line.size() <= name.size() || line[name.size()] != ':' ||
        ::strncasecmp(line.data(), name.data(), name.size()) != 0)
      continue;
    const std::size_t value = line.find_first_not_of(' ', name.size() + 1);
    return value == std::string_view::npos ? std::string_view() : line.substr(value);
  }
  return std::nullopt;
}

template <typename Number>
std::optional<Number> number(std::string_view text, int base = 10) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end != text.data() ? std::optional(value) : std::nullopt;
}

/// Joins the chunks of a chunked body. Nothing when it is not whole.
std::optional<std::string> unchunk(std::string_view text) {
  std::string body;
  for (;;) {
    const std::size_t line = text.find("\r\n");
    if (line == std::string_view::npos) return std::nullopt;
    const auto bytes = number<std::size_t>(text.substr(0, line), 16);
    text.remove_prefix(line + 2);
    if (!bytes || *bytes > text.size()) return std::nullopt;
    if (*bytes == 0) return body;
    body += text.substr(0, *bytes);
    text.remove_prefix(std::min(text.size(), *bytes + 2));
  }
}

bool is_whole(std::string_view text, std::size_t head_bytes) {
  const auto length = field(text.substr(0, head_bytes), "Content-Length");
  const auto bytes = length ? number<std::size_t>(*length) : std::nullopt;
  return bytes && text.size() - head_bytes >= *bytes;
}

base::Result<EngineAnswer> parse(const std::string& text, std::size_t head_bytes) {
  const std::string_view all(text);
  const auto status = all.size() > 12 && all.starts_with("HTTP/1.") ? number<int>(all.substr(9, 3)) : std::nullopt;
  if (!status || head_bytes == std::string::npos) return Error{ErrorKind::io, "the engine answers no HTTP"};
  const std::string_view head = all.substr(0, head_bytes);
  const std::string_view body = all.substr(head_bytes);
  if (const auto coding = field(head, "Transfer-Encoding"); coding && *coding == "chunked") {
    auto joined = unchunk(body);
    if (!joined) return Error{ErrorKind::io, "the engine's answer broke off"};
    return EngineAnswer{*status, *std::move(joined)};
  }
  if (field(head, "Content-Length") && !is_whole(all, head_bytes))
    return Error{ErrorKind::io, "the engine's answer broke off"};
  return EngineAnswer{*status, std::string(body)};
}

}  // namespace

base::Result<EngineAnswer> ask_engine(const std::string& address, const EngineQuestion& question,
                                      base::TimePoint deadline, const std::stop_token& stop) {
  THAW_ASSIGN_OR_RETURN(Fd fd, connect_to(address));
  Exchange exchange(std::move(fd), deadline, stop);
  // The side that closes first keeps the connection's remains; with until_closed that must not be the engine.
  std::string request = fmt::format("{} {} HTTP/1.1\r\nHost: engine\r\nConnection: {}\r\n", question.method, question.target,
                                    question.until_closed ? "keep-alive" : "close");
  if (question.method == "POST")
    request += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", question.body.size());
  THAW_RETURN_IF_ERROR(exchange.send(request + "\r\n" + question.body));

  std::string text;
  std::size_t head_bytes = std::string::npos;
  for (;;) {
    THAW_ASSIGN_OR_RETURN(const bool more, exchange.receive(text));
    if (head_bytes == std::string::npos)
      if (const std::size_t end = text.find("\r\n\r\n"); end != std::string::npos) head_bytes = end + 4;
    if (!more || (head_bytes != std::string::npos && is_whole(text, head_bytes))) {
      if (more && question.until_closed) THAW_RETURN_IF_ERROR(exchange.close());
      return parse(text, head_bytes);
    }
    if (text.size() > kMaxEngineAnswer) return Error{ErrorKind::io, "the engine's answer is longer than 1 MiB"};
  }
}

}  // namespace thaw::node
