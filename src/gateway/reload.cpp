// The server's configuration, read again while it runs.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "gateway/admin.h"
#include "gateway/server.h"
#include "net/tls.h"

namespace thaw::gateway {
namespace {

namespace json = boost::json;

net::TlsFiles files_of(const spec::ServerConfig::Tls& tls) {
  return {tls.certificate, tls.key, tls.client_ca};
}

std::string told(const spec::ConfigChange& change) {
  if (change.empty()) return "nothing has changed";
  std::string text;
  if (!change.applied.empty()) text = fmt::format("changed: {}", fmt::join(change.applied, ", "));
  if (!change.needs_restart.empty())
    text += fmt::format("{}needs a restart: {}", text.empty() ? "" : "; ", fmt::join(change.needs_restart, ", "));
  return text;
}

}  // namespace

net::Task<base::Result<spec::ConfigChange>> Server::reload(const Exchange* mine) {
  // By reference into this frame: GCC 12 destroys twice what a lambda in an awaited call has captured by value.
  const spec::ServerConfig before = config_;
  const Reload how = reload_;
  // Off the loop: it waits for disks.
  auto read = co_await services_.files_worker.run([&before, &how]() -> base::Result<spec::ServerConfig> {
    if (!how.read) return before;
    THAW_ASSIGN_OR_RETURN(spec::ServerConfig config, how.read());
    THAW_RETURN_IF_ERROR(how.check(config));
    if (config.tls.on && before.tls.on)
      if (auto loaded = net::TlsContext::load(files_of(config.tls)); !loaded.ok()) return loaded.error();
    return config;
  });
  if (!read.ok()) {
    if (tls_) tls_->reload();
    co_return read.error().within("nothing was changed");
  }
  const spec::ConfigChange change = spec::take_over(config_, *read);
  cors_ = Cors(config_.cors_origins);
  audit_trail_.set_reads(config_.audit.reads);
  if (tls_) tls_->use(files_of(config_.tls));
  certificates_ = ClientCertificates(config_.tls.clients);
  cut_callers([this](const Caller& caller) { return caller.certificate && !certificates_.still_is(caller); }, mine);
  if (reload_.follow) reload_.follow(config_);
  spdlog::info("configuration read again: {}", told(change));
  if (!change.needs_restart.empty())
    spdlog::warn("these keys count from the next start on (systemctl restart thaw): {}",
                 fmt::join(change.needs_restart, ", "));
  co_return change;
}

void Server::audit_reload(audit::Event event, std::string detail) {
  audit::Record record;
  record.event = event;
  record.action = "server.reload";
  record.who = "local";
  record.detail = std::move(detail);
  services_.audit.append(std::move(record), [](const base::Status& written) {
    if (!written.ok())
      spdlog::error("that the configuration was read again is not on record: {}", written.error().message);
  });
}

net::Task<void> Server::reload_by_signal() {
  audit_reload(audit::Event::begun, "SIGHUP");
  const auto change = co_await reload(nullptr);
  if (!change.ok()) spdlog::error("the configuration cannot be used: {}", change.error().message);
  audit_reload(audit::Event::done, change.ok() ? told(*change) : "refused: " + change.error().message);
}

namespace admin {

net::Task<void> reload_server(Server& server, Exchange& exchange) {
  const auto change = co_await server.reload(&exchange);
  if (!change.ok()) {
    ApiError error = from_error(change.error());
    error.status = 400;
    error.code = "invalid_config";
    co_await exchange.respond_error(error);
    co_return;
  }
  json::array applied(change->applied.begin(), change->applied.end());
  json::array needs_restart(change->needs_restart.begin(), change->needs_restart.end());
  const json::object answer{{"applied", std::move(applied)}, {"needs_restart", std::move(needs_restart)}};
  co_await respond_json(exchange, 200, answer);
}

}  // namespace admin
}  // namespace thaw::gateway
