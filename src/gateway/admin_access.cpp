// Who one is, and who may do what.
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "gateway/admin.h"
#include "gateway/openapi.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;

json::object describe(const Route& route) {
  json::array names;
  for (const spec::Role role : spec::kRoles)
    if ((route.rule.roles & role_bit(role)) != 0) names.emplace_back(to_string(role));
  return {{"method", route.method},
          {"path", route.pattern},
          {"scope", to_string(route.rule.scope)},
          {"roles", std::move(names)},
          {"action", route.action.empty() ? json::value(nullptr) : json::value(route.action)},
          {"act", route.is_act()},
          {"inference", route.is_inference()}};
}

template <typename Number>
json::value or_null(const std::optional<Number>& number) {
  return number ? json::value(*number) : json::value(nullptr);
}

}  // namespace

net::Task<void> whoami(Server& server, Exchange& exchange) {
  const Caller& caller = exchange.caller();
  json::object answer{
      {"key", caller.key ? json::value(caller.key.value()) : json::value(nullptr)},
      {"subject", caller.subject.empty() ? json::value(nullptr) : json::value(caller.subject)},
      {"tenant", caller.tenant.str()},
      {"role", to_string(caller.role)},
      {"platform", caller.platform},
      {"models", json::array(caller.models.begin(), caller.models.end())},
      {"expires_unix_ms", caller.expires_unix_ms == 0 ? json::value(nullptr) : json::value(caller.expires_unix_ms)},
      {"requests_left", or_null(caller.account->requests_left(server.loop().now()))},
      {"tokens_left", or_null(caller.account->tokens_left(server.loop().now()))},
      {"running_requests", caller.account->running()}};
  if (const Tenant* const tenant = server.tenants().find(caller.tenant))
    answer["quotas"] = json::parse(spec::to_json(tenant->spec)).at("spec").at("quotas");
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> list_routes(Server& /*server*/, Exchange& exchange) {
  json::array routes;
  for (const Route& route : route_table()) routes.push_back(describe(route));
  const json::object answer{{"routes", std::move(routes)}};
  co_await respond_json(exchange, 200, answer);
}

/// The same for everybody: it says nothing that is not in the documentation.
net::Task<void> show_openapi(Server& /*server*/, Exchange& exchange) {
  static const std::string document = openapi_text();
  co_await exchange.respond(200, "application/json", document);
}

}  // namespace thaw::gateway::admin
