#include "gateway/routes.h"

#include "gateway/admin.h"
#include "gateway/openai.h"

namespace thaw::gateway {

const std::vector<Route>& route_table() {
  static const std::vector<Route> table{
      {"POST", "/v1/chat/completions", Access::key, openai::infer},
      {"POST", "/v1/completions", Access::key, openai::infer},
      {"POST", "/v1/embeddings", Access::key, openai::infer},
      {"GET", "/v1/models", Access::key, openai::list_models},
      {"GET", "/v1/models/*", Access::key, openai::show_model},
      {"GET", "/healthz", Access::open, admin::healthz},
      {"GET", "/readyz", Access::open, admin::readyz},
      {"GET", "/metrics", Access::key, admin::metrics},
      {"GET", "/metrics/engines", Access::key, admin::engine_metrics},
      {"GET", "/admin/v1/status", Access::key, admin::status, "server.status"},
      {"GET", "/admin/v1/models", Access::key, admin::list_models, "model.list"},
      {"POST", "/admin/v1/models", Access::key, admin::deploy_model, "model.deploy"},
      {"GET", "/admin/v1/models/*", Access::key, admin::show_model, "model.show"},
      {"DELETE", "/admin/v1/models/*", Access::key, admin::remove_model, "model.remove"},
      {"POST", "/admin/v1/models/*/stop", Access::key, admin::stop_model, "model.stop"},
      {"POST", "/admin/v1/models/*/verify", Access::key, admin::verify_model, "model.verify"},
      {"POST", "/admin/v1/models/*/evict", Access::key, admin::evict_model, "model.evict"},
      {"GET", "/admin/v1/models/*/logs", Access::key, admin::model_logs, "model.logs"},
      {"POST", "/admin/v1/models/*/freeze", Access::key, admin::freeze_model, "model.freeze"},
      {"POST", "/admin/v1/models/*/wake", Access::key, admin::wake_model, "model.wake"},
      {"POST", "/admin/v1/models/*/snapshot", Access::key, admin::snapshot_model, "model.snapshot"},
      {"GET", "/admin/v1/images", Access::key, admin::list_images, "image.list"},
      {"DELETE", "/admin/v1/images/*", Access::key, admin::remove_image, "image.remove"},
      {"POST", "/admin/v1/nodes/*/cordon", Access::key, admin::cordon_node, "node.cordon"},
      {"POST", "/admin/v1/nodes/*/uncordon", Access::key, admin::uncordon_node, "node.uncordon"},
      {"POST", "/admin/v1/nodes/*/drain", Access::key, admin::drain_node, "node.drain"},
      {"GET", "/admin/v1/pulls", Access::key, admin::list_pulls, "pull.list"},
      {"POST", "/admin/v1/pulls", Access::key, admin::start_pull, "pull.start"},
      {"GET", "/admin/v1/pulls/*", Access::key, admin::show_pull, "pull.show"},
      {"DELETE", "/admin/v1/pulls/*", Access::key, admin::cancel_pull, "pull.cancel"},
      {"GET", "/admin/v1/store", Access::key, admin::show_store, "store.show"},
      {"POST", "/admin/v1/store/gc", Access::key, admin::collect_store, "store.gc"},
      {"GET", "/admin/v1/instances", Access::key, admin::list_instances, "instance.list"},
      {"GET", "/admin/v1/requests/*", Access::key, admin::show_request, "request.show"},
      {"GET", "/admin/v1/usage", Access::key, admin::usage, "usage.show"},
      {"GET", "/admin/v1/usage/requests", Access::key, admin::usage_requests, "usage.requests"},
      {"POST", "/admin/v1/tenants/*/erase", Access::key, admin::erase_tenant, "tenant.erase"},
  };
  return table;
}

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
