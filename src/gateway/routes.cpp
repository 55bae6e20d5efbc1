#include "gateway/routes.h"

#include <array>

#include "gateway/admin.h"
#include "gateway/admin_container_images.h"
#include "gateway/openai.h"
#include "gateway/route_docs.h"

namespace thaw::gateway {

namespace {

constexpr Rule kOpen{Scope::open, 0};
constexpr Rule own(RoleSet roles) { return {Scope::own, roles}; }
constexpr Rule of_platform(RoleSet roles) { return {Scope::platform, roles}; }

/// A request to a model that some engines take and others do not.
constexpr Route where_offered(std::string_view path, BodyForm body = BodyForm::json, Dialect dialect = Dialect::openai) {
  return {"POST", path, own(roles::kAsk), openai::infer, {}, dialect, body, false};
}

// Requests to models first: they are the most frequent, and the table is searched from the top.
constexpr std::array kTable{
    Route{"POST", "/v1/chat/completions", own(roles::kAsk), openai::infer, {}, Dialect::openai, BodyForm::generation},
    Route{"POST", "/v1/completions", own(roles::kAsk), openai::infer, {}, Dialect::openai, BodyForm::generation},
    Route{"POST", "/v1/embeddings", own(roles::kAsk), openai::infer},
    where_offered("/v1/responses", BodyForm::generation),
    where_offered("/v1/responses/input_tokens"),
    where_offered("/v1/messages", BodyForm::generation, Dialect::anthropic),
    where_offered("/v1/messages/count_tokens", BodyForm::json, Dialect::anthropic),
    where_offered("/v1/rerank"),
    where_offered("/rerank"),
    where_offered("/v1/audio/transcriptions", BodyForm::form),
    where_offered("/v1/audio/translations", BodyForm::form),
    where_offered("/v1/audio/speech"),
    where_offered("/v1/images/generations"),
    where_offered("/tokenize"),
    where_offered("/detokenize"),
    Route{"GET", "/v1/models", own(roles::kAny), openai::list_models},
    Route{"GET", "/v1/models/*", own(roles::kAny), openai::show_model},
    Route{"GET", "/healthz", kOpen, admin::healthz},
    Route{"GET", "/readyz", kOpen, admin::readyz},
    Route{"GET", "/metrics", of_platform(roles::kWatch), admin::metrics},
    Route{"GET", "/metrics/engines", of_platform(roles::kWatch), admin::engine_metrics},
    Route{"GET", "/admin/v1/openapi.json", own(roles::kAny), admin::show_openapi, "api.show"},
    Route{"GET", "/admin/v1/status", of_platform(roles::kWatch), admin::status, "server.status"},
    Route{"POST", "/admin/v1/reload", of_platform(roles::kAdmin), admin::reload_server, "server.reload"},
    Route{"GET", "/admin/v1/whoami", own(roles::kAny), admin::whoami, "key.self"},
    Route{"GET", "/admin/v1/routes", own(roles::kAny), admin::list_routes, "route.list"},
    Route{"GET", "/admin/v1/models", own(roles::kLook), admin::list_models, "model.list"},
    Route{"POST", "/admin/v1/models", own(roles::kDeploy), admin::deploy_model, "model.deploy"},
    Route{"GET", "/admin/v1/models/*", own(roles::kLook), admin::show_model, "model.show"},
    Route{"DELETE", "/admin/v1/models/*", own(roles::kDeploy), admin::remove_model, "model.remove"},
    Route{"POST", "/admin/v1/models/*/stop", own(roles::kDeploy), admin::stop_model, "model.stop"},
    Route{"POST", "/admin/v1/models/*/verify", own(roles::kDeploy), admin::verify_model, "model.verify"},
    Route{"POST", "/admin/v1/models/*/evict", own(roles::kDeploy), admin::evict_model, "model.evict"},
    Route{"GET", "/admin/v1/models/*/logs", own(roles::kDeploy), admin::model_logs, "model.logs"},
    Route{"GET", "/admin/v1/models/*/events", own(roles::kLook), admin::model_events, "model.events"},
    Route{"GET", "/admin/v1/models/*/explain", own(roles::kLook), admin::explain_model, "model.explain"},
    Route{"POST", "/admin/v1/models/*/freeze", own(roles::kDeploy), admin::freeze_model, "model.freeze"},
    Route{"POST", "/admin/v1/models/*/wake", own(roles::kDeploy), admin::wake_model, "model.wake"},
    Route{"POST", "/admin/v1/models/*/snapshot", own(roles::kDeploy), admin::snapshot_model, "model.snapshot"},
    Route{"GET", "/admin/v1/models/*/revisions", own(roles::kLook), admin::list_revisions, "model.revisions"},
    Route{"POST", "/admin/v1/models/*/rollback", own(roles::kDeploy), admin::rollback_model, "model.rollback"},
    Route{"POST", "/admin/v1/models/*/rollout", own(roles::kDeploy), admin::roll_out_model, "model.rollout"},
    Route{"GET", "/admin/v1/images", own(roles::kLook), admin::list_images, "image.list"},
    Route{"DELETE", "/admin/v1/images/*", own(roles::kDeploy), admin::remove_image, "image.remove"},
    Route{"GET", "/admin/v1/container-images", of_platform(roles::kWatch), admin::list_container_images, "container-image.list"},
    Route{"POST", "/admin/v1/container-images/gc", of_platform(roles::kAdmin), admin::collect_container_images, "container-image.gc"},
    Route{"POST", "/admin/v1/nodes/*/cordon", of_platform(roles::kAdmin), admin::cordon_node, "node.cordon"},
    Route{"POST", "/admin/v1/nodes/*/uncordon", of_platform(roles::kAdmin), admin::uncordon_node, "node.uncordon"},
    Route{"POST", "/admin/v1/nodes/*/drain", of_platform(roles::kAdmin), admin::drain_node, "node.drain"},
    Route{"GET", "/admin/v1/instances", own(roles::kLook), admin::list_instances, "instance.list"},
    Route{"GET", "/admin/v1/requests/*", own(roles::kAny), admin::show_request, "request.show"},
    Route{"GET", "/admin/v1/usage", own(roles::kLook), admin::usage, "usage.show"},
    Route{"GET", "/admin/v1/usage/requests", own(roles::kLook), admin::usage_requests, "usage.requests"},
    Route{"GET", "/admin/v1/pulls", of_platform(roles::kWatch), admin::list_pulls, "pull.list"},
    Route{"POST", "/admin/v1/pulls", of_platform(roles::kAdmin), admin::start_pull, "pull.start"},
    Route{"GET", "/admin/v1/pulls/*", of_platform(roles::kWatch), admin::show_pull, "pull.show"},
    Route{"DELETE", "/admin/v1/pulls/*", of_platform(roles::kAdmin), admin::cancel_pull, "pull.cancel"},
    Route{"GET", "/admin/v1/store", of_platform(roles::kWatch), admin::show_store, "store.show"},
    Route{"POST", "/admin/v1/store/gc", of_platform(roles::kAdmin), admin::collect_store, "store.gc"},
    Route{"GET", "/admin/v1/keys", own(roles::kAdmin), admin::list_keys, "key.list"},
    Route{"POST", "/admin/v1/keys", own(roles::kAdmin), admin::create_key, "key.create"},
    Route{"DELETE", "/admin/v1/keys/*", own(roles::kAdmin), admin::revoke_key, "key.revoke"},
    Route{"POST", "/admin/v1/keys/*/rotate", own(roles::kAdmin), admin::rotate_key, "key.rotate"},
    Route{"GET", "/admin/v1/tenants", of_platform(roles::kWatch), admin::list_tenants, "tenant.list"},
    Route{"POST", "/admin/v1/tenants", of_platform(roles::kAdmin), admin::create_tenant, "tenant.create"},
    Route{"GET", "/admin/v1/tenants/*", of_platform(roles::kWatch), admin::show_tenant, "tenant.show"},
    Route{"PUT", "/admin/v1/tenants/*", of_platform(roles::kAdmin), admin::change_tenant, "tenant.set"},
    Route{"DELETE", "/admin/v1/tenants/*", of_platform(roles::kAdmin), admin::remove_tenant, "tenant.remove"},
    Route{"POST", "/admin/v1/tenants/*/erase", of_platform(roles::kAdmin), admin::erase_tenant, "tenant.erase"},
};

consteval bool all_ruled() {
  for (const Route& route : kTable)
    if (!route.rule.declared()) return false;
  return true;
}
static_assert(all_ruled(), "a route says who may call it: own(roles) or of_platform(roles); kOpen only where nothing is told");

consteval bool all_described() {
  for (const Route& route : kTable)
    if (!has_doc(route.method, route.pattern)) return false;
  return kTable.size() == kRouteDocs.size();
}
static_assert(all_described(), "a route has a row in route_docs.h, from which the OpenAPI document is made, and no row is without a route");

}  // namespace

std::span<const Route> route_table() { return kTable; }

bool matches(std::string_view pattern, std::string_view path, std::string_view& parameter) {
  const auto star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == path;
  const std::string_view before = pattern.substr(0, star);
  const std::string_view after = pattern.substr(star + 1);
  if (path.size() <= before.size() + after.size() || path.substr(0, before.size()) != before ||
      path.substr(path.size() - after.size()) != after)
    return false;
  parameter = path.substr(before.size(), path.size() - before.size() - after.size());
  return parameter.find('/') == std::string_view::npos;
}

}  // namespace thaw::gateway
