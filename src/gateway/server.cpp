#include "gateway/server.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "base/units.h"

namespace thaw::gateway {

namespace {

constexpr base::Duration kUsesWritten = base::Seconds(60);  ///< when keys were used last is written down so often

ApiError forbidden(const char* code, std::string message) { return {403, "permission_error", code, std::move(message), {}, {}}; }

}  // namespace

Server::Server(Services services, spec::ServerConfig config, Tenants tenants, std::vector<store::StoredKey> keys, TokenDoor* tokens,
               std::uint32_t process_tag)
    : services_(services),
      config_(std::move(config)),
      tenants_(std::move(tenants)),
      keys_(config_.dev),
      certificates_(config_.tls.clients),
      requests_(process_tag),
      audit_trail_(services_.loop, services_.audit, config_.audit.reads, config_.dev),
      started_(services.loop.now()),
      cors_(config_.cors_origins),
      drain_timer_(services.loop, [this] { cut_connections(); }),
      uses_timer_(services.loop, [this] { write_key_uses(); }) {
  keys_.set(std::move(keys), tenants_);
  keys_.take_tokens(tokens);
  uses_timer_.arm(services_.loop.now() + kUsesWritten);
  for (const auto& [name, tenant] : tenants_.all())
    if (const base::Status set = services_.controller.set_tenant(device_policy(tenant.spec, net::unix_ms(), services_.loop.now())); !set.ok())
      spdlog::error("tenant {}: {}", name.str(), set.error().message);
}

Server::~Server() = default;

/// Lazily: a crash loses a minute of it, and no request waits for it.
void Server::write_key_uses() {
  uses_timer_.arm(services_.loop.now() + kUsesWritten);
  auto used = keys_.take_used();
  if (used.empty()) return;
  services_.store_worker.submit([&store = services_.store, used = std::move(used)] {
    if (const base::Status written = store.touch_keys(used); !written.ok()) spdlog::warn("{}", written.error().message);
  });
}

net::Task<base::Status> Server::reload_keys() {
  auto keys = co_await services_.store_worker.run([this] { return services_.store.keys(); });
  if (!keys.ok()) co_return keys.error();
  keys_.set(std::move(keys).value(), tenants_);
  co_return base::Status{};
}

void Server::cut_callers(const std::function<bool(const Caller&)>& gone, const Exchange* mine) {
  for (const auto& [connection, owner] : connections_) {
    const Exchange* const exchange = connection->exchange();
    if (exchange != nullptr && exchange != mine && gone(exchange->caller())) connection->cut();
  }
}

base::Status Server::listen() {
  THAW_ASSIGN_OR_RETURN(listener_, net::Listener::open(services_.loop, config_.listen_host, config_.listen_port,
                                                       [this](int fd, std::string peer) { accept(fd, std::move(peer), Speech::plain); }));
  if (!config_.tls.on) return {};
  THAW_ASSIGN_OR_RETURN(tls_, TlsFront::open({config_.tls.certificate, config_.tls.key, config_.tls.client_ca}));
  THAW_ASSIGN_OR_RETURN(tls_listener_, net::Listener::open(services_.loop, config_.tls.listen_host, config_.tls.listen_port,
                                                           [this](int fd, std::string peer) { accept(fd, std::move(peer), Speech::tls); }));
  return {};
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
  if (exchange.route_ == nullptr || exchange.route_->rule.scope != Scope::open) {
    // Before anything is said about what exists.
    if (auto refused = identify(exchange)) return refused;
  }
  if (exchange.route_ == nullptr) {
    ApiError error{path_known ? 405 : 404, "invalid_request_error", path_known ? "method_not_allowed" : "unknown_url",
                   std::string(head.method.substr(0, 16)) + " " + std::string(path.substr(0, 200)) +
                       (path_known ? " is not allowed" : " does not exist"),
                   {}, {}};
    return error;
  }
  if (exchange.route_->rule.scope == Scope::open) return std::nullopt;
  if (auto refused = authorize(exchange)) return refused;
  if (draining_) return ApiError{503, "server_error", "draining", "the server is shutting down", {}, base::Seconds(1)};
  if (!exchange.route_->is_inference()) return std::nullopt;
  exchange.limits_ = exchange.caller().account;
  auto refused = exchange.limits_->begin(services_.loop.now());
  exchange.counted_ = !refused;
  return refused;
}

std::optional<ApiError> Server::identify(Exchange& exchange) {
  const std::string& certificate = exchange.connection_.certificate();
  if (certificates_.knows(certificate) && !KeyRing::sent(exchange.head())) return certificates_.identify(certificate, exchange.head(), tenants_, exchange.caller_);
  return keys_.identify(exchange.head(), net::unix_ms(), exchange.caller_);
}

std::optional<ApiError> Server::authorize(Exchange& exchange) {
  const Caller& caller = exchange.caller();
  const Rule& rule = exchange.route_->rule;
  if (!rule.allows(caller.role, caller.platform)) {
    const bool role = (rule.roles & role_bit(caller.role)) == 0;
    return forbidden(role ? "role_forbidden" : "platform_only",
                     role ? fmt::format("this is for the role {}; the {} is for {}", describe(rule.roles), caller.certificate ? "client's certificate" : "key that was sent", to_string(caller.role))
                          : "this is for keys of the platform (`thaw key create --platform`), not for a tenant's");
  }
  const std::string_view named = exchange.query("tenant");
  if (named.empty() || named == caller.tenant.str()) {
    if (!named.empty()) exchange.named_tenant_ = caller.tenant;
    return std::nullopt;
  }
  base::TenantName tenant{std::string(named)};
  // To a tenant's own caller every other one is as one that does not exist.
  if (!caller.platform || tenants_.find(tenant) == nullptr)
    return ApiError{404, "invalid_request_error", "tenant_not_found", "there is no tenant \"" + std::string(named.substr(0, 64)) + "\"", {}, {}};
  if (exchange.route_->is_inference())
    return forbidden("tenant_forbidden", "models are asked with a key of their own tenant (`thaw key create --tenant`), also by those who run the platform");
  exchange.named_tenant_ = std::move(tenant);
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
