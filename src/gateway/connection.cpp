#include "gateway/connection.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/units.h"
#include "gateway/patience.h"
#include "gateway/server.h"

namespace thaw::gateway {
namespace {

constexpr std::size_t kKeptBufferBytes = 4 * 1024;        ///< a connection keeps a small buffer between requests, no big one
constexpr base::Duration kLingerTimeout = base::Seconds(2);
constexpr std::size_t kLingerBytes = 16U << 20U;

ApiError too_large(std::uint64_t limit) {
  return {413, "invalid_request_error", "request_too_large",
          "the body is larger than the limit of " + base::format_bytes(limit) + " (gateway.maxBodyBytes)", {}, {}};
}

ApiError slow_body() { return {408, "invalid_request_error", "body_timeout", "the body did not arrive in time", {}, {}}; }

}  // namespace

Connection::Connection(Server& server, std::unique_ptr<net::Socket> socket, std::string peer)
    : server_(server), socket_(std::move(socket)), peer_(std::move(peer)) {}

Connection::~Connection() { server_.release_bytes(charged_); }

void Connection::cut() { shutdown(socket_->fd(), SHUT_RDWR); }

net::Task<void> Connection::serve() {
  net::Head head;
  net::HeadError error;
  bool keep_alive = !socket_->tls() || co_await shake_hands();
  while (keep_alive) {
    const Got got = co_await read_head(head, error);
    if (got == Got::end) break;
    if (got == Got::refused) {
      co_await refuse_head(head, error);
      break;
    }
    co_await answer_one(head, keep_alive);
  }
  server_.closed(*this);  // destroys this
}

std::uint64_t Connection::min_rate() const { return server_.config().gateway.min_rate_bytes; }

/// A client's certificate, if one is asked for, stands beside its address from here on: in the audit log.
net::Task<bool> Connection::shake_hands() {
  constexpr std::size_t kMaxSubjectBytes = 256;
  idle_ = false;
  socket_->set_deadline(server_.loop().now() + server_.config().gateway.header_timeout);
  const int failed = co_await socket_->handshake();
  socket_->clear_deadline();
  if (failed != 0) {
    spdlog::debug("{}: no TLS connection: {}", peer_, socket_->tls()->error().empty() ? std::strerror(-failed) : socket_->tls()->error());
    co_return false;
  }
  if (std::string subject = socket_->tls()->peer_subject(); !subject.empty()) {
    peer_ += " " + subject.substr(0, kMaxSubjectBytes);
    certificate_ = std::move(subject);
  }
  co_return true;
}

net::Task<ssize_t> Connection::read_more() {
  net::Loop& loop = server_.loop();
  while (true) {
    // The scratch buffer is only safe between here and the next suspension, so wait first and read then.
    if (const int failed = co_await socket_->readable(); failed != 0) co_return failed;
    const ssize_t count = socket_->try_read({loop.scratch(), net::Loop::kScratchBytes});
    if (count == -EAGAIN) continue;
    if (count > 0) in_.append(loop.scratch(), static_cast<std::size_t>(count));
    co_return count;
  }
}

net::Task<Connection::Got> Connection::read_head(net::Head& head, net::HeadError& error) {
  const auto& limits = server_.config().gateway;
  net::Loop& loop = server_.loop();
  while (true) {
    if (!in_.empty()) {
      idle_ = false;
      const net::Parse parsed = net::parse_request(in_, head, error);
      if (parsed == net::Parse::done) break;
      if (parsed == net::Parse::bad) co_return Got::refused;
    } else {
      if (server_.draining()) co_return Got::end;
      idle_ = true;
      socket_->set_deadline(loop.now() + limits.idle_connection_timeout);
    }
    const bool first = in_.empty();
    const ssize_t count = co_await read_more();
    if (count <= 0) {
      if (count != -ETIMEDOUT || first) co_return Got::end;
      error = {408, "the request's head did not arrive in time"};
      co_return Got::refused;
    }
    if (first) socket_->set_deadline(loop.now() + limits.header_timeout);
  }
  socket_->clear_deadline();
  co_return Got::request;
}

net::Task<void> Connection::refuse_head(net::Head& head, const net::HeadError& error) {
  head.reset();
  head.keep_alive = false;
  consumed_ = in_.size();
  Exchange exchange(*this, server_.loop(), *socket_, head);
  server_.number(exchange);
  ApiError refused = invalid_request(error.message, {}, "bad_http");
  refused.status = error.status;
  co_await exchange.respond_error(refused);
  co_await linger();
}

net::Task<void> Connection::answer_one(net::Head& head, bool& keep_alive) {
  Exchange exchange(*this, server_.loop(), *socket_, head);
  server_.number(exchange);
  std::optional<ApiError> refused = server_.admit(exchange);
  if (refused && server_.cors().is_preflight(head) && head.body.kind == net::BodyLength::Kind::none) {
    consumed_ = head.bytes;
    const std::string headers = preflight_headers();
    co_await exchange.respond(200, "text/plain", "", headers);
    keep_alive = exchange.keep_alive() && !exchange.gone_;
    release_request();
    co_return;
  }
  bool body_read = false;
  if (!refused) {
    refused = co_await read_body(exchange, head);
    body_read = !refused;
  } else {
    body_read = head.body.kind == net::BodyLength::Kind::none;
    co_await server_.audit_trail().refused(exchange, *refused);
  }
  if (refused) {
    consumed_ = body_read ? head.bytes : in_.size();
    if (!body_read) exchange.close_after();  // what follows cannot be told from the unread body
    co_await exchange.respond_error(*refused);
    if (!body_read) co_await linger();
  } else {
    co_await server_.handle(exchange);
  }
  keep_alive = exchange.keep_alive() && !exchange.gone_;
  release_request();
}

net::Task<std::optional<ApiError>> Connection::read_body(Exchange& exchange, net::Head& head) {
  consumed_ = head.bytes;
  if (head.body.kind == net::BodyLength::Kind::none) co_return std::nullopt;
  const std::uint64_t limit = server_.config().gateway.max_body_bytes;
  if (head.body.kind == net::BodyLength::Kind::sized && head.body.bytes > limit) co_return too_large(limit);
  if (head.expects_continue) co_await exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
  if (head.body.kind == net::BodyLength::Kind::sized) co_return co_await read_sized(exchange, head);
  co_return co_await read_chunked(exchange, head);
}

net::Task<std::optional<ApiError>> Connection::read_sized(Exchange& exchange, net::Head& head) {
  const std::size_t size = head.bytes + static_cast<std::size_t>(head.body.bytes);
  if (!charge(static_cast<std::size_t>(head.body.bytes))) co_return server_.out_of_buffers();
  if (in_.size() < size) {
    std::size_t have = in_.size();
    const Patience patience(server_.loop().now(), min_rate());
    in_.resize(size);  // read into place: a large body is not copied
    while (have < size) {
      socket_->set_deadline(patience.deadline(server_.loop().now(), have));
      const ssize_t count = co_await socket_->read({in_.data() + have, size - have});
      if (count == -EAGAIN) continue;
      if (count <= 0) {
        in_.resize(have);
        if (count == -ETIMEDOUT) co_return slow_body();
        exchange.gone_ = true;
        co_return invalid_request("the connection closed inside the body");
      }
      have += static_cast<std::size_t>(count);
    }
    socket_->clear_deadline();
    net::HeadError ignored;
    net::parse_request(in_, head, ignored);  // the buffer moved: the views with it
  }
  consumed_ = size;
  exchange.body_ = std::string_view(in_).substr(head.bytes, static_cast<std::size_t>(head.body.bytes));
  co_return std::nullopt;
}

net::Task<std::optional<ApiError>> Connection::read_chunked(Exchange& exchange, net::Head& head) {
  const std::uint64_t limit = server_.config().gateway.max_body_bytes;
  net::ChunkScanner scanner;
  decoded_body_.clear();
  std::string rest = in_.substr(head.bytes);  // raw body bytes leave in_, so that the head's views stay good
  in_.resize(head.bytes);
  const std::size_t head_bytes = head.bytes;
  const Patience patience(server_.loop().now(), min_rate());
  while (true) {
    const std::size_t taken = scanner.scan(rest, [this](std::string_view data) { decoded_body_.append(data); });
    if (scanner.bad()) co_return invalid_request("the chunked body is malformed", {}, "bad_http");
    if (decoded_body_.size() > limit) co_return too_large(limit);
    if (decoded_body_.size() > charged_ && !charge(decoded_body_.size() - charged_)) co_return server_.out_of_buffers();
    if (scanner.done()) {
      in_.append(rest, taken);  // what was sent behind this request
      break;
    }
    socket_->set_deadline(patience.deadline(server_.loop().now(), decoded_body_.size()));
    const ssize_t count = co_await read_more();
    if (count == -ETIMEDOUT) co_return slow_body();
    if (count <= 0) {
      exchange.gone_ = true;
      co_return invalid_request("the connection closed inside the body");
    }
    rest.assign(in_, head_bytes);
    in_.resize(head_bytes);
  }
  socket_->clear_deadline();
  net::HeadError ignored;
  net::parse_request(in_, head, ignored);
  exchange.body_ = decoded_body_;
  co_return std::nullopt;
}

bool Connection::charge(std::size_t bytes) {
  if (!server_.charge_bytes(bytes)) return false;
  charged_ += bytes;
  return true;
}

void Connection::release_request() {
  server_.release_bytes(std::exchange(charged_, 0));
  if (decoded_body_.capacity() > 0) decoded_body_ = {};
  if (consumed_ >= in_.size()) {
    in_.clear();
  } else {
    in_.erase(0, consumed_);
  }
  consumed_ = 0;
  if (in_.capacity() > kKeptBufferBytes && in_.size() <= kKeptBufferBytes) in_ = std::string(in_);  // copies into a smaller one
}

net::Task<void> Connection::linger() {
  // Closing with unread input would reset the connection and could destroy the answer on its way.
  socket_->shutdown_write();
  socket_->set_deadline(server_.loop().now() + kLingerTimeout);
  std::size_t discarded = 0;
  while (discarded < kLingerBytes) {
    in_.clear();
    const ssize_t count = co_await read_more();
    if (count <= 0) break;
    discarded += static_cast<std::size_t>(count);
  }
}

}  // namespace thaw::gateway
