#include "gateway/server.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "base/units.h"

namespace thaw::gateway {

Server::Server(Services services, spec::ServerConfig config, KeyRing keys, std::uint32_t process_tag)
    : services_(services),
      config_(std::move(config)),
      keys_(std::move(keys)),
      requests_(process_tag),
      audit_trail_(services_.loop, services_.audit, config_.audit.reads, config_.dev),
      started_(services.loop.now()),
      cors_(config_.cors_origins),
      drain_timer_(services.loop, [this] { cut_connections(); }) {}

Server::~Server() = default;

base::Status Server::listen() {
  THAW_ASSIGN_OR_RETURN(listener_, net::Listener::open(services_.loop, config_.listen_host, config_.listen_port,
                                                       [this](int fd, std::string peer) { accept(fd, std::move(peer), Speech::plain); }));
  if (!config_.tls.on) return {};
  THAW_ASSIGN_OR_RETURN(tls_, TlsFront::open({config_.tls.certificate, config_.tls.key, config_.tls.client_ca}));
  THAW_ASSIGN_OR_RETURN(tls_listener_, net::Listener::open(services_.loop, config_.tls.listen_host, config_.tls.listen_port,
                                                           [this](int fd, std::string peer) { accept(fd, std::move(peer), Speech::tls); }));
  return {};
}

void Server::reload_tls() {
  if (tls_)
    tls_->reload();
  else
    spdlog::info("there is nothing to read again: no TLS is configured");
}

void Server::accept(int fd, std::string peer, Speech speech) {
  if (draining_ || connections_.size() >= config_.gateway.max_connections) {
    static const std::string kBody =
        R"({"error":{"message":"no more connections are taken; try again soon","type":"server_error","param":null,"code":"overloaded"}})";
    static const std::string kFull = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: " +
                                     std::to_string(kBody.size()) + "\r\n\r\n" + kBody;
    [[maybe_unused]] const auto sent = speech == Speech::tls ? 0 : send(fd, kFull.data(), kFull.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
    return;
  }
  auto socket = net::Socket::adopt(services_.loop, fd);
  if (!socket.ok()) {
    spdlog::error("cannot take a connection: {}", socket.error().message);
    return;
  }
  if (speech == Speech::tls) {
    if (const base::Status begun = (*socket)->start_tls(tls_->context(services_.loop.now())); !begun.ok()) {
      spdlog::error("cannot take a connection: {}", begun.error().message);
      return;
    }
  }
  auto connection = std::make_unique<Connection>(*this, std::move(socket).value(), std::move(peer));
  Connection& reference = *connection;
  connections_.emplace(&reference, std::move(connection));
  net::spawn(reference.serve());
}

void Server::closed(Connection& connection) {
  connections_.erase(&connection);
  check_drained();
}

void Server::number(Exchange& exchange) {
  exchange.id_ = requests_.next();
  exchange.arrived_ = services_.loop.now();
  requests_.format(exchange.id_, exchange.id_text_);
}

std::optional<ApiError> Server::admit(Exchange& exchange) {
  exchange.cors_origin_ = cors_.allowed(exchange.head());
  return admit_route(exchange);
}

std::optional<ApiError> Server::admit_route(Exchange& exchange) {
  const net::Head& head = exchange.head();
  const std::string_view path = head.path();
  const std::string_view method = head.method == "HEAD" ? std::string_view("GET") : head.method;
  bool path_known = false;
  std::string_view parameter;
  for (const Route& route : route_table()) {
    if (!matches(route.pattern, path, parameter)) continue;
    path_known = true;
    if (route.method != method) continue;
    exchange.route_ = &route;
    break;
  }
  if (exchange.route_ == nullptr || exchange.route_->access != Access::open) {
    // Before anything is said about what exists.
    if (auto refused = keys_.identify(head, exchange.caller_)) return refused;
  }
  if (exchange.route_ == nullptr) {
    ApiError error{path_known ? 405 : 404, "invalid_request_error", path_known ? "method_not_allowed" : "unknown_url",
                   std::string(head.method.substr(0, 16)) + " " + std::string(path.substr(0, 200)) +
                       (path_known ? " is not allowed" : " does not exist"),
                   {}, {}};
    return error;
  }
  if (draining_ && exchange.route_->access != Access::open)
    return ApiError{503, "server_error", "draining", "the server is shutting down", {}, base::Seconds(1)};
  return std::nullopt;
}

net::Task<void> Server::handle(Exchange& exchange) {
  matches(exchange.route_->pattern, exchange.head().path(), exchange.parameter_);
  if (draining_) exchange.close_after();
  const bool admin = !exchange.route_->action.empty();
  if (admin) {
    if (const auto refused = co_await audit_trail_.begin(exchange)) {
      co_await exchange.respond_error(*refused);
      co_return;
    }
  }
  co_await exchange.route_->handler(*this, exchange);
  if (admin && exchange.audited()) co_await audit_trail_.settle(exchange, exchange.status());  // it was a stream
}

bool Server::charge_bytes(std::size_t bytes) {
  if (buffered_bytes_ + bytes > config_.gateway.max_buffered_bytes) return false;
  buffered_bytes_ += bytes;
  return true;
}

ApiError Server::out_of_buffers() const {
  return {503, "server_error", "overloaded",
          "all " + base::format_bytes(config_.gateway.max_buffered_bytes) + " for waiting request bodies are taken (gateway.maxBufferedBytes)", {},
          base::Seconds(1)};
}

void Server::drain(std::function<void()> drained) {
  if (draining_) return;
  draining_ = true;
  drained_ = std::move(drained);
  services_.controller.drain();
  for (const auto& [connection, owner] : connections_)
    if (connection->idle()) connection->cancel();
  drain_timer_.arm(services_.loop.now() + config_.gateway.drain_timeout);
  check_drained();
}

void Server::cut_connections() {
  spdlog::warn("drain: {} connections were still busy after {}; they are cut", connections_.size(),
               base::format_duration(config_.gateway.drain_timeout));
  for (const auto& [connection, owner] : connections_) connection->cut();
}

void Server::check_drained() {
  if (!draining_ || !drained_ || !connections_.empty()) return;
  drain_timer_.disarm();
  std::exchange(drained_, nullptr)();
}

}  // namespace thaw::gateway
