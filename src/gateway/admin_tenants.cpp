// Tenants: made, looked at, given other quotas, removed.
#include <spdlog/spdlog.h>

#include <algorithm>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "gateway/admin.h"
#include "base/revision.h"
#include "gateway/server.h"
#include "spec/tenant_spec.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxTenants = 10'000;

std::size_t models_of(Server& server, const base::TenantName& tenant) {
  const auto& models = server.services().controller.models();
  return static_cast<std::size_t>(std::count_if(models.begin(), models.end(), [&](const auto& one) {
    return base::tenant_part(one.first) == tenant.str() && one.first == server.services().rollouts.serving(base::model_of(one.first));
  }));
}

template <typename Number>
json::value or_null(const std::optional<Number>& number) {
  return number ? json::value(*number) : json::value(nullptr);
}

json::object describe(Server& server, const Tenant& tenant) {
  const base::TenantName& name = tenant.spec.name;
  const auto& keys = server.keys().keys();
  const auto live = std::count_if(keys.begin(), keys.end(), [&](const auto& one) {
    return one.second.tenant == name && one.second.revoked_unix_ms == 0 &&
           (one.second.expires_unix_ms == 0 || one.second.expires_unix_ms > net::unix_ms());
  });
  std::uint64_t image_bytes = 0;
  for (const control::ImageView& image : server.services().controller.scheduler().images())
    if (base::tenant_part(image.info.model) == name.str()) image_bytes += image.info.bytes;
  TenantAccount& account = *tenant.account;
  json::object o{{"name", name.str()},
                 {"models", models_of(server, name)},
                 {"keys", live},
                 {"running_requests", account.running()},
                 {"refused_requests", account.refused()},
                 {"requests_left", or_null(account.requests_left(server.loop().now()))},
                 {"tokens_left", or_null(account.tokens_left(server.loop().now()))},
                 {"disk_bytes", image_bytes},
                 {"created_unix_ms", tenant.created_unix_ms},
                 {"updated_unix_ms", tenant.updated_unix_ms}};
  for (const control::TenantView& view : server.services().controller.tenants()) {
    if (view.policy.tenant != name) continue;
    o["devices"] = view.devices;
    o["device_seconds_today"] = view.used_today_device_seconds;
    o["exhausted"] = view.exhausted;
  }
  o["spec"] = json::parse(spec::to_json(tenant.spec)).at("spec");
  return o;
}

net::Task<void> respond_no_such_tenant(Exchange& exchange) {
  const ApiError error{404,
                       "invalid_request_error",
                       "tenant_not_found",
                       "there is no tenant \"" + std::string(exchange.parameter()) + "\"; `thaw tenant ls` lists them",
                       {},
                       {}};
  co_await exchange.respond_error(error);
}

/// Reads a spec off the loop, stores it and gives it effect; answers.
net::Task<void> store_tenant(Server& server, Exchange& exchange, bool create) {
  Services& services = server.services();
  const std::string_view text = exchange.body();
  const auto spec = co_await services.files_worker.run([text] { return spec::parse_tenant(text, "request"); });
  if (!spec.ok()) {
    co_await exchange.respond_error(invalid_request(spec.error().message, {}, "invalid_spec"));
    co_return;
  }
  const base::TenantName name = spec->name;
  if (create) exchange.audit_subject(name.str());
  if (!create && name.str() != exchange.parameter()) {
    co_await exchange.respond_error(invalid_request(
        "metadata.name is not the name in the path; a tenant keeps its name", "metadata.name", "invalid_spec"));
    co_return;
  }
  const Tenant* const before = server.tenants().find(name);
  if (create && before != nullptr) {
    const ApiError error{409,        "invalid_request_error",
                         "conflict", "there is a tenant \"" + name.str() + "\" already; `thaw tenant set` changes it",
                         {},         {}};
    co_await exchange.respond_error(error);
    co_return;
  }
  if (!create && before == nullptr) {
    co_await respond_no_such_tenant(exchange);
    co_return;
  }
  if (create && server.tenants().all().size() >= kMaxTenants) {
    const ApiError error{403,
                         "permission_error",
                         "quota_exceeded",
                         "there are " + std::to_string(kMaxTenants) + " tenants; remove one first",
                         {},
                         {}};
    co_await exchange.respond_error(error);
    co_return;
  }
  const std::int64_t now_ms = net::unix_ms();
  const std::int64_t created_ms = before != nullptr && before->created_unix_ms != 0 ? before->created_unix_ms : now_ms;
  const base::Status stored = co_await services.store_worker.run([&] {
    return services.store.put_tenant({name, spec::to_json(*spec), created_ms, now_ms});
  });
  if (!stored.ok()) {
    co_await exchange.respond_error(from_error(stored.error()));
    co_return;
  }
  server.tenants().put(*spec, created_ms, now_ms, server.loop().now());
  if (const base::Status set = services.controller.set_tenant(device_policy(*spec, now_ms, server.loop().now())); !set.ok()) {
    co_await exchange.respond_error(from_error(set.error()));
    co_return;
  }
  spdlog::info("tenant {}: {}", name.str(), create ? "created" : "changed");
  const json::object answer = describe(server, *server.tenants().find(name));
  co_await respond_json(exchange, create ? 201 : 200, answer);
}

}  // namespace

net::Task<void> list_tenants(Server& server, Exchange& exchange) {
  json::array tenants;
  for (const auto& [name, tenant] : server.tenants().all()) tenants.push_back(describe(server, tenant));
  const json::object answer{{"tenants", std::move(tenants)}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> show_tenant(Server& server, Exchange& exchange) {
  const Tenant* const tenant = server.tenants().find(base::TenantName(std::string(exchange.parameter())));
  if (tenant == nullptr) {
    co_await respond_no_such_tenant(exchange);
    co_return;
  }
  const json::object answer = describe(server, *tenant);
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> create_tenant(Server& server, Exchange& exchange) {
  return store_tenant(server, exchange, true);
}

net::Task<void> change_tenant(Server& server, Exchange& exchange) {
  return store_tenant(server, exchange, false);
}

net::Task<void> remove_tenant(Server& server, Exchange& exchange) {
  Services& services = server.services();
  const base::TenantName name{std::string(exchange.parameter())};
  const Tenant* const known = server.tenants().find(name);
  if (known == nullptr) {
    co_await respond_no_such_tenant(exchange);
    co_return;
  }
  const std::size_t models = models_of(server, name);
  if (name.str() == base::kDefaultTenant || models > 0 || !known->deploying.empty()) {
    const ApiError error{409,
                         "invalid_request_error",
                         "conflict",
                         name.str() == base::kDefaultTenant
                             ? "the default tenant is the server's own and stays"
                             : fmt::format("tenant {} has {} models; remove them first (`thaw rm --tenant {} MODEL`)",
                                           name.str(), models + known->deploying.size(), name.str()),
                         {},
                         {}};
    co_await exchange.respond_error(error);
    co_return;
  }
  // Out of the books before the disk is waited for: nothing is deployed for it meanwhile.
  const Tenant before = *known;
  server.tenants().erase(name);
  const auto deleted =
      co_await services.store_worker.run([&] { return services.store.delete_tenant(name, net::unix_ms()); });
  if (!deleted.ok())
    server.tenants().put(before.spec, before.created_unix_ms, before.updated_unix_ms, server.loop().now());
  const base::Status loaded = co_await server.reload_keys();
  if (!deleted.ok() || !loaded.ok()) {
    co_await exchange.respond_error(from_error(deleted.ok() ? loaded.error() : deleted.error()));
    co_return;
  }
  services.controller.forget_tenant(name);
  server.cut_callers([&](const Caller& caller) { return caller.tenant == name; }, &exchange);
  spdlog::info("tenant {}: removed, its keys are revoked", name.str());
  const json::object answer{{"name", name.str()}, {"deleted", true}};
  co_await respond_json(exchange, 200, answer);
}

}  // namespace thaw::gateway::admin
