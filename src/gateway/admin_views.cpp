#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/revision.h"
#include "base/version.h"
#include "gateway/admin.h"
#include "gateway/admin_container_images.h"
#include "gateway/admin_pulls.h"
#include "gateway/server.h"
#include "observe/engine_metrics.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;

constexpr auto kEnginesAtMost = base::Seconds(3);  // for all engines' metrics together

std::int64_t whole_ms(base::Duration duration) { return base::duration_cast<base::Millis>(duration).count(); }
double exact_ms(base::Duration duration) { return base::to_ms(duration); }

json::object describe(const control::InstanceView& view, base::TimePoint now) {
  json::object o{{"id", view.instance.value()},
                 {"model", base::public_model(view.model)},
                 {"tenant", base::tenant_part(view.model)},
                 {"node", view.node.str()},
                 {"device", view.device.str()},
                 {"state", to_string(view.state)},
                 {"device_bytes", view.device_bytes},
                 {"host_bytes", view.host_bytes},
                 {"way", to_string(view.way)},
                 {"image", view.image.empty() ? json::value(nullptr) : json::value(view.image.str())},
                 {"memory_bytes", 0},
                 {"held_bytes", 0},
                 {"weights_resident_bytes", nullptr},
                 {"in_flight", view.in_flight},
                 {"served", view.served},
                 {"age_ms", whole_ms(now - view.since)},
                 {"idle_ms", nullptr},
                 {"pid", nullptr},
                 {"reason", view.reason}};
  json::array& devices = o["devices"].emplace_array();
  for (const base::DeviceId& device : view.devices) devices.emplace_back(device.str());
  if (view.idle_since != base::never()) o["idle_ms"] = whole_ms(now - view.idle_since);
  return o;
}

json::object describe(const wire::Phase& phase) {
  json::object o{{"name", phase.name}, {"start_ms", exact_ms(phase.start)}, {"duration_ms", exact_ms(phase.duration)}};
  if (phase.bytes) {
    o["read_bytes"] = phase.bytes->read;
    o["resident_bytes"] = phase.bytes->resident;
  }
  return o;
}

/// Of a model's weights in host memory, shared by its replicas; nothing when nobody knows.
std::optional<std::uint64_t> weights_resident(Server& server, const base::ModelName& name) {
  controller::Controller& controller = server.services().controller;
  const auto* model = controller.find(name);
  if (model == nullptr || controller.cache() == nullptr) return std::nullopt;
  const auto entry = controller.cache()->book().entry(model->spec.source.path, server.loop().now());
  return entry ? entry->resident_bytes : std::nullopt;
}

json::object describe(const control::DeviceView& view) {
  return {{"node", view.node.str()},          {"id", view.info.id.str()},
          {"kind", to_string(view.info.kind)}, {"name", view.info.name},
          {"total_bytes", view.info.total_bytes}, {"budget_bytes", view.info.budget_bytes},
          {"reserved_bytes", view.reserved_bytes}, {"duty", to_string(view.duty)}};
}

json::object describe(const control::NodeView& view) {
  json::array drivers;
  for (const wire::DriverInfo& d : view.drivers)
    drivers.push_back(json::object{{"driver", to_string(d.driver)},
                                   {"device", to_string(d.device)},
                                   {"standby", d.standby},
                                   {"snapshot", d.snapshot},
                                   {"opt_in", d.opt_in},
                                   {"why_not", d.why_not}});
  return {{"node", view.node.str()},
          {"domain", view.domain},
          {"host_reserved_bytes", view.host_reserved_bytes},
          {"host_budget_bytes", view.host_budget_bytes},
          {"image_reserved_bytes", view.image_reserved_bytes},
          {"image_budget_bytes", view.image_budget_bytes},
          {"drivers", std::move(drivers)}};
}

}  // namespace

net::Task<void> healthz(Server& /*server*/, Exchange& exchange) { co_await exchange.respond(200, "text/plain", "ok\n"); }

net::Task<void> readyz(Server& server, Exchange& exchange) {
  if (server.draining()) {
    co_await exchange.respond(503, "text/plain", "draining\n");
  } else {
    co_await exchange.respond(200, "text/plain", "ready\n");
  }
}

net::Task<void> status(Server& server, Exchange& exchange) {
  const spec::ServerConfig& config = server.config();
  const std::string body = json::serialize(json::object{{"version", base::kVersion},
                                                        {"uptime_ms", whole_ms(server.loop().now() - server.started())},
                                                        {"pid", getpid()},
                                                        {"data_dir", config.data_dir},
                                                        {"sandbox", to_string(config.node.sandbox)},
                                                        {"dev", config.dev},
                                                        {"draining", server.draining()},
                                                        {"models", server.services().rollouts.models()},
                                                        {"connections", server.connections()}});
  co_await exchange.respond(200, "application/json", body);
}

net::Task<void> metrics(Server& server, Exchange& exchange) {
  co_await look_at_cache(server);
  const control::Scheduler& scheduler = server.services().controller.scheduler();
  observe::Levels levels;
  for (const auto& m : scheduler.models()) {
    if (m.ready + m.starting + m.freezing + m.standby + m.waking + m.stopping + m.in_flight + m.queued == 0) continue;
    levels.models.push_back({m.model.str(), static_cast<double>(m.in_flight), static_cast<double>(m.queued), static_cast<double>(m.ready),
                             static_cast<double>(m.starting), static_cast<double>(m.freezing), static_cast<double>(m.standby),
                             static_cast<double>(m.waking)});
  }
  const std::vector<control::ImageView> images = scheduler.images();
  for (const auto& n : scheduler.nodes()) {
    const auto here = std::count_if(images.begin(), images.end(), [&](const control::ImageView& i) { return i.node == n.node; });
    levels.nodes.push_back({n.node.str(), static_cast<double>(n.host_reserved_bytes), static_cast<double>(n.host_budget_bytes),
                            static_cast<double>(n.image_reserved_bytes), static_cast<double>(n.image_budget_bytes), static_cast<double>(here)});
  }
  for (const auto& d : scheduler.devices())
    levels.devices.push_back({d.node.str(), d.info.id.str(), static_cast<double>(d.reserved_bytes), static_cast<double>(d.info.budget_bytes)});
  if (auto* cache = server.services().controller.cache(); cache != nullptr) {
    const control::HostCacheView view = cache->book().view();
    levels.host_cache_bytes = static_cast<double>(view.cached_bytes);
    levels.host_cache_budget_bytes = static_cast<double>(view.budget_bytes);
  }
  add_pull_levels(server, levels);
  add_egress_levels(server, levels);
  const control::RoutingTotals& routing = scheduler.routing();
  levels.affinity_followed = static_cast<double>(routing.affinity_followed);
  levels.affinity_spilled = static_cast<double>(routing.affinity_spilled);
  levels.ejections = static_cast<double>(routing.ejections);
  levels.retries_denied = static_cast<double>(routing.retries_denied);
  levels.deployed_models = static_cast<double>(server.services().rollouts.models());
  levels.changed_models = static_cast<double>(server.services().model_files.models_with_changed_files());
  levels.connections = static_cast<double>(server.connections());
  levels.buffered_bytes = static_cast<double>(server.buffered_bytes());
  if (const store::UsageJournal* journal = server.services().usage.journal) levels.usage_rows_dropped = static_cast<double>(journal->lost());
  const audit::AuditLog& audit = server.services().audit;
  levels.audit_records = static_cast<double>(audit.written());
  levels.audit_failures = static_cast<double>(audit.failed());
  levels.audit_export_failures = static_cast<double>(audit.failed_exports());
  const node::FillTotals weights = server.services().node.weights_read();
  levels.weight_fills = static_cast<double>(weights.under_way);
  levels.weights_read_bytes = static_cast<double>(weights.read_bytes);
  levels.weights_resident_bytes = static_cast<double>(weights.resident_bytes);
  levels.weights_left_bytes = static_cast<double>(weights.left_bytes);
  const std::string body = server.services().metrics.scrape(levels);
  co_await exchange.respond(200, "text/plain; version=0.0.4; charset=utf-8", body);
}

/// The engines' own, apart from ours: one that hangs must not keep thaw's from whoever watches it.
net::Task<void> engine_metrics(Server& server, Exchange& exchange) {
  Services& services = server.services();
  std::map<base::InstanceId, base::ModelName> models;
  std::vector<base::InstanceId> ready;
  for (const control::InstanceView& view : services.controller.scheduler().instances()) {
    if (view.state != control::InstanceState::ready) continue;
    ready.push_back(view.instance);
    models.emplace(view.instance, view.model);
  }
  node::Agent& node = services.node;
  const std::string body = co_await services.engines_worker.run([&node, &ready, &models] {
    observe::EngineMetrics all;
    for (const node::Agent::EngineMetrics& one : node.engine_metrics(ready, kEnginesAtMost))
      all.add(one.text, base::model_of(models.at(one.instance)).str(), one.instance.value());
    return all.text();
  });
  co_await exchange.respond(200, "text/plain; version=0.0.4; charset=utf-8", body);
}

net::Task<void> list_instances(Server& server, Exchange& exchange) {
  Services& services = server.services();
  co_await look_at_cache(server);
  std::vector<control::InstanceView> views = services.controller.scheduler().instances();
  std::erase_if(views, [&](const control::InstanceView& view) { return !exchange.sees(view.model); });
  // What the kernel says of each takes a look into a few files.
  node::Agent& node = services.node;
  const auto usages = co_await services.files_worker.run([&node, &views] {
    std::vector<base::Result<node::Agent::Usage>> all;
    all.reserve(views.size());
    for (const auto& view : views) all.push_back(node.usage(view.instance));
    return all;
  });
  json::array instances;
  for (std::size_t i = 0; i < views.size(); ++i) {
    json::object o = describe(views[i], server.loop().now());
    o["revision"] = services.rollouts.number_of(views[i].model);
    if (usages[i].ok()) {
      o["memory_bytes"] = usages[i]->memory_bytes;
      o["held_bytes"] = usages[i]->held_bytes;
      o["pid"] = usages[i]->pid;
    }
    if (const auto bytes = weights_resident(server, views[i].model)) o["weights_resident_bytes"] = *bytes;
    instances.push_back(std::move(o));
  }
  json::object answer{{"instances", std::move(instances)}};
  // How full the machine is, others brought about: that is for those who run it.
  if (exchange.caller().platform) {
    json::array devices;
    for (const auto& view : services.controller.scheduler().devices()) devices.push_back(describe(view));
    json::array nodes;
    for (const auto& view : services.controller.scheduler().nodes()) nodes.push_back(describe(view));
    answer["devices"] = std::move(devices);
    answer["nodes"] = std::move(nodes);
    answer["host_cache"] = describe_cache(server);
  }
  const std::string body = json::serialize(answer);
  co_await exchange.respond(200, "application/json", body);
}

net::Task<void> show_request(Server& server, Exchange& exchange) {
  const RequestRecord* record = server.requests().find(exchange.parameter());
  // Who may only ask sees what it asked itself.
  const Caller& caller = exchange.caller();
  const bool seen = record != nullptr && exchange.sees(record->model) && (caller.role != spec::Role::inference || record->key == caller.key);
  if (!seen) {
    const ApiError error{404, "invalid_request_error", "not_found",
                         "no such request among the last " + std::to_string(RequestLog::kCapacity) + " finished ones", {}, {}};
    co_await exchange.respond_error(error);
    co_return;
  }
  json::array phases;
  for (const auto& phase : record->timeline()) phases.push_back(describe(phase));
  const json::value failure = record->failure.empty() ? json::value(nullptr) : json::value(record->failure);
  const std::string body = json::serialize(json::object{{"id", std::string(exchange.parameter())},
                                                        {"model", base::public_model(record->model)},
                                                        {"tenant", record->tenant.str()},
                                                        {"revision", record->revision},
                                                        {"status", record->status},
                                                        {"done", record->done},
                                                        {"cold", record->cold},
                                                        {"way", record->cold ? json::value(to_string(record->way)) : json::value(nullptr)},
                                                        {"why", record->why},
                                                        {"attempts", record->attempts},
                                                        {"queued_ms", exact_ms(record->queued)},
                                                        {"ttft_ms", exact_ms(record->first_byte)},
                                                        {"total_ms", exact_ms(record->total)},
                                                        {"prompt_tokens", record->prompt_tokens},
                                                        {"completion_tokens", record->completion_tokens},
                                                        {"failure", failure},
                                                        {"phases", std::move(phases)}});
  co_await exchange.respond(200, "application/json", body);
}

}  // namespace thaw::gateway::admin
