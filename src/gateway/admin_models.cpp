#include <spdlog/spdlog.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "base/revision.h"
#include "controller/adapters.h"
#include "gateway/admin.h"
#include "gateway/admin_adapters.h"
#include "gateway/admin_pulls.h"
#include "gateway/deploy_rules.h"
#include "gateway/admin_container_images.h"
#include "gateway/name_claim.h"
#include "gateway/server.h"
#include "spec/parse.h"
#include "spec/source_ref.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;

const char* state_of(const control::ModelView& view, base::TimePoint now) {
  if (view.ready > 0) return "ready";
  if (view.waking > 0) return "waking";
  if (view.starting > 0) return "starting";
  if (view.backoff_until > now) return "backoff";
  if (view.freezing > 0) return "freezing";
  if (view.standby > 0) return "standby";
  if (view.stopping > 0) return "stopping";
  return "asleep";
}

json::object describe(const control::CostEstimate& cost) {
  return {{"mean_ms", base::to_ms(cost.mean())}, {"deviation_ms", base::to_ms(cost.deviation())}, {"samples", cost.samples()}};
}

/// What is known of the model's transitions: what they cost, how often they failed, where it rests and why.
json::object describe_tiers(const control::ModelView& view) {
  return {{"freezes", view.freezes},
          {"wakes", view.wakes},
          {"restores", view.restores},
          {"freeze_failures", view.freeze_failures},
          {"wake_failures", view.wake_failures},
          {"restore_failures", view.restore_failures},
          {"snapshot_failures", view.snapshot_failures},
          {"last_snapshot_failure", view.last_snapshot_failure},
          {"rests", view.rests},
          {"costs",
           {{"start", describe(view.costs.start)},
            {"restore", describe(view.costs.restore)},
            {"wake", describe(view.costs.wake)},
            {"freeze", describe(view.costs.freeze)}}}};
}

json::object describe(const controller::ModelEntry& model, const control::ModelView& view, std::size_t files_changed, base::TimePoint now) {
  const spec::ModelSpec& spec = model.spec;
  return {{"name", base::public_model(spec.name)},
          {"tenant", base::tenant_part(spec.name)},
          {"state", state_of(view, now)},
          {"ready", view.ready},
          {"starting", view.starting},
          {"waking", view.waking},
          {"freezing", view.freezing},
          {"standby", view.standby},
          {"stopping", view.stopping},
          {"images", view.images},
          {"image_bytes", view.image_bytes},
          {"in_flight", view.in_flight},
          {"queued", view.queued},
          {"min_replicas", spec.scaling.min_replicas},
          {"max_replicas", spec.scaling.max_replicas},
          {"device", to_string(spec.resources.device)},
          {"devices", spec.resources.devices},
          {"priority", to_string(spec.priority)},
          {"device_memory_bytes", spec.resources.device_memory_bytes.value_or(0)},
          {"weights_bytes", model.weights_bytes},
          {"files_changed", files_changed},
          {"source", spec::to_string(spec.source)},
          {"aliases", json::array(spec.aliases.begin(), spec.aliases.end())},
          {"engine", to_string(spec.engine)},
          {"cold_starts", view.cold_starts},
          {"evictions", view.evictions},
          {"start_failures", view.start_failures},
          {"last_failure", view.last_failure},
          {"start_cost_ms", base::to_ms(view.start_cost)},
          {"tiers", describe_tiers(view)},
          {"created_unix_ms", model.created_unix_ms},
          {"updated_unix_ms", model.updated_unix_ms}};
}

/// With how much of its weights is in memory; null while nobody has looked, or where the kernel does not say.
json::object describe(const controller::ModelEntry& model, const control::ModelView& view, Server& server) {
  const base::TimePoint now = server.loop().now();
  controller::CacheKeeper* const cache = server.services().controller.cache();
  const auto entry = cache == nullptr ? std::nullopt : cache->book().entry(model.spec.source.path, now);
  const bool known = entry && entry->resident_bytes;
  json::object o = describe(model, view, server.services().model_files.changed_files(view.model), now);
  if (known && entry->weights_bytes > 0) o["weights_bytes"] = entry->weights_bytes;
  o["resident_bytes"] = known ? json::value(*entry->resident_bytes) : json::value(nullptr);
  add_rollout_of(server, view.model, o);
  for (const spec::Adapter& adapter : controller::adapters_of(server.services().controller, base::model_of(view.model))) {
    if (!o.contains("adapters")) o["adapters"].emplace_array();
    o["adapters"].get_array().push_back(json::value(adapter.name));
  }
  o["pinned"] = model.spec.cache.pin;
  o["eviction_failure"] = entry ? entry->why_left : "";
  add_container_image(server, model.spec, o);
  return o;
}

/// It has no replicas: what can be said of how soon it answers, its base says.
json::object describe_adapter(const controller::ModelEntry& model, const std::vector<control::ModelView>& views, Server& server) {
  const base::ModelName base = server.services().rollouts.serving(controller::base_of(model.spec));
  control::ModelView none;
  none.model = model.spec.name;
  json::object o = describe(model, none, server);
  o["base"] = model.spec.base_model;
  o["min_replicas"] = o["max_replicas"] = 0;
  const auto view = std::find_if(views.begin(), views.end(), [&](const control::ModelView& one) { return one.model == base; });
  if (view != views.end()) o["state"] = state_of(*view, server.loop().now());
  if (const auto* const entry = server.services().controller.find(base)) o["device"] = to_string(entry->spec.resources.device);
  return o;
}

json::object describe(const node::ModelFacts& facts) {
  return {{"format", facts.format},
          {"weights_bytes", facts.weights_bytes},
          {"kv_bytes_per_token", facts.kv_bytes_per_token},
          {"trained_context_tokens", facts.trained_context_tokens},
          {"estimated_device_bytes", facts.estimated_device_bytes}};
}

json::value digest_or_null(const std::string& sha256) { return sha256.empty() ? json::value(nullptr) : json::value(sha256); }

json::object describe(const store::StoredFile& file) {
  json::object o{{"bytes", file.bytes},
                 {"modified_unix_ms", file.mtime_ns / 1'000'000},
                 {"sha256", digest_or_null(file.sha256)},
                 {"verified_unix_ms", nullptr}};
  if (file.verified_unix_ms != 0) o["verified_unix_ms"] = file.verified_unix_ms;
  return o;
}

json::object describe(const controller::KnownFile& file) {
  json::object o{{"path", file.deployed.path}, {"gone", file.gone}, {"deployed", describe(file.deployed)}, {"changed", nullptr}};
  if (file.changed) {
    json::object changed = describe(*file.changed);
    changed["changed_unix_ms"] = file.changed->changed_unix_ms;
    o["changed"] = std::move(changed);
  }
  return o;
}

/// ?percent=P&timeout_s=N
base::Result<control::RolloutSettings> rollout_settings(const Exchange& exchange) {
  control::RolloutSettings settings;
  THAW_ASSIGN_OR_RETURN(const auto percent, number_in_query(exchange, "percent", 1, 100));
  THAW_ASSIGN_OR_RETURN(const auto timeout_s, number_in_query(exchange, "timeout_s", 1, 86'400));
  if (percent) settings.percent = *percent;
  if (timeout_s) settings.timeout = base::Seconds(*timeout_s);
  return settings;
}

/// A spec that was read and whose files were looked into.
struct Checked {
  spec::ModelSpec spec;
  node::ModelFacts facts;
};

}  // namespace

net::Task<void> list_models(Server& server, Exchange& exchange) {
  controller::Controller& controller = server.services().controller;
  co_await look_at_cache(server);
  json::array models;
  const auto views = controller.scheduler().models();
  for (const control::ModelView& view : views)
    if (const auto* model = exchange.sees(view.model) && server.services().rollouts.serving(base::model_of(view.model)) == view.model
                                ? controller.find(view.model)
                                : nullptr)
      models.push_back(describe(*model, view, server));
  for (const auto& [name, model] : controller.models())
    if (model->spec.is_adapter() && exchange.sees(name)) models.push_back(describe_adapter(*model, views, server));
  add_pending_models(server, exchange, models);
  json::object answer{{"models", std::move(models)}};
  if (exchange.caller().platform) answer["host_cache"] = describe_cache(server);
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> show_model(Server& server, Exchange& exchange) {
  controller::Controller& controller = server.services().controller;
  const base::ModelName asked = exchange.model();
  const base::ModelName name = server.services().rollouts.serving(asked);
  co_await look_at_cache(server);
  if (const auto* const model = controller.find(name)) {
    json::object o;
    const auto views = controller.scheduler().models();
    if (model->spec.is_adapter()) o = describe_adapter(*model, views, server);
    for (const control::ModelView& view : views)
      if (view.model == name) o = describe(*model, view, server);
    json::array files;
    for (const controller::KnownFile& file : server.services().model_files.files(name)) files.push_back(describe(file));
    o["files"] = std::move(files);
    o["spec"] = json::parse(spec::to_json(model->spec)).at("spec");
    add_pull_of(server, asked, o);
    co_await respond_json(exchange, 200, o);
    co_return;
  }
  if (co_await show_pending_model(server, exchange, asked)) co_return;
  co_await respond_no_such_model(exchange);
}

net::Task<void> deploy_model(Server& server, Exchange& exchange) {
  Services& services = server.services();
  const auto settings = rollout_settings(exchange);
  if (!settings.ok()) {
    co_await exchange.respond_error(from_error(settings.error()));
    co_return;
  }
  const Tenant* const own = server.tenants().find(exchange.tenant());
  const SourceRule sources = source_rule(exchange.caller(), own, server.config().node.container_images.tenant_registries);
  // Off the loop: reading a hostile megabyte of YAML takes a second, looking into a model file waits for a disk.
  const std::string_view text = exchange.body();
  auto checked = co_await services.files_worker.run([text, &sources, &pulls = services.pulls]() -> base::Result<Checked> {
    THAW_ASSIGN_OR_RETURN(spec::ModelSpec read, spec::parse_model(text, "request", "/"));
    THAW_RETURN_IF_ERROR(keep_to_sources(read, sources));
    read.adapters.clear();  // whose base it is, the server knows
    if (read.is_adapter()) return Checked{std::move(read), {}};
    if (pulls.must_wait(read)) return Checked{std::move(read), {}};
    THAW_ASSIGN_OR_RETURN(node::ModelFacts found, node::inspect_model(read));
    return Checked{std::move(read), std::move(found)};
  });
  if (!checked.ok()) {
    ApiError error = from_error(checked.error());
    if (error.status == 400) error.code = "invalid_spec";
    co_await exchange.respond_error(error);
    co_return;
  }
  spec::ModelSpec spec = std::move(checked->spec);
  node::ModelFacts facts = std::move(checked->facts);
  if (const auto refused = give_to_tenant(server, exchange, spec)) {
    co_await exchange.respond_error(*refused);
    co_return;
  }
  const auto place = DeployPlace::take(server, spec.name);
  if (!place.ok()) {
    ApiError error = from_error(place.error());
    error.code = "quota_exceeded";
    co_await exchange.respond_error(error);
    co_return;
  }
  const auto names = NameClaim::take(server, spec);
  if (!names.ok()) {
    ApiError error = from_error(names.error());
    error.code = "name_taken";
    co_await exchange.respond_error(error);
    co_return;
  }
  std::optional<ApiError> unfit;  // not by ?: — see model_not_found in openai.cpp
  if (spec.is_adapter()) unfit = co_await look_into_adapter(server, spec, settings->percent, facts);
  else unfit = co_await check_base(server, spec);
  if (unfit) {
    co_await exchange.respond_error(*unfit);
    co_return;
  }
  const std::optional<ApiError> unpinned = co_await pin_container_image(server, spec);
  if (unpinned) {
    co_await exchange.respond_error(*unpinned);
    co_return;
  }
  want_container_image(services.node, spec);
  if (spec.source.remote() && spec.source.path.empty()) {
    if (settings->percent < 100) {
      const ApiError refused = invalid_request("?percent= is for files that are here; deploy it, and once they were pulled give it a share with `thaw rollout`",
                                               {}, "not_pulled");
      co_await exchange.respond_error(refused);
      co_return;
    }
    co_await deploy_after_pull(server, exchange, std::move(spec), settings->timeout);
    co_return;
  }
  const std::int64_t now_ms = net::unix_ms();
  const auto* before = services.controller.find(services.rollouts.serving(spec.name));
  const std::int64_t created_ms = before != nullptr ? before->created_unix_ms : now_ms;
  const bool memory_estimated = !spec.is_adapter() && !spec.resources.device_memory_bytes.has_value();
  if (memory_estimated) spec.resources.device_memory_bytes = facts.estimated_device_bytes;
  if (!spec.resources.loading_memory_bytes) spec.resources.loading_memory_bytes = facts.estimated_loading_bytes;
  base::Status fits;
  if (!spec.is_adapter()) fits = services.controller.can_ever_run(spec);
  if (!fits.ok()) {
    ApiError error = invalid_request(fits.error().message, "spec.resources", "cannot_fit");
    error.status = 422;
    co_await exchange.respond_error(error);
    co_return;
  }
  const base::ModelName name = spec.name;
  const bool created = before == nullptr;
  json::object answer{{"name", base::public_model(name)},
                      {"tenant", base::tenant_part(name)},
                      {"created", created},
                      {"facts", describe(facts)},
                      {"spec", json::parse(spec::to_json(spec)).at("spec")}};
  const std::string source = spec::to_string(spec.source);
  auto plan = services.rollouts.plan({std::move(spec), facts.weights_bytes, 0, created_ms, now_ms, memory_estimated, nullptr}, facts.files, *settings);
  // Durable before it counts; the worker has one thread, so that two deploys of one name are stored in the order they take effect.
  const auto usage_ref = co_await services.store_worker.run([&]() -> base::Result<std::uint32_t> {
    THAW_RETURN_IF_ERROR(services.store.change_rollout(plan.change));
    return services.store.model_ref(name);
  });
  if (!usage_ref.ok()) {
    co_await exchange.respond_error(from_error(usage_ref.error().within("cannot store the model")));
    co_return;
  }
  plan.entry.usage_ref = *usage_ref;
  spdlog::info("{}: {} ({}), revision {}{}", name.str(), created ? "deployed" : "deployed again", source, plan.number, plan.unchanged ? ", as it was" : "");
  answer["succession"] = to_string(plan.succession);
  services.pulls.forget(name);
  services.rollouts.carry_out(std::move(plan));
  add_rollout_of(server, name, answer);
  co_await respond_json(exchange, created ? 201 : 200, answer);
}

net::Task<void> remove_model(Server& server, Exchange& exchange) {
  Services& services = server.services();
  const base::ModelName name = exchange.model();
  if (const auto refused = refuse_base_of_adapters(server, name)) {
    co_await exchange.respond_error(*refused);
    co_return;
  }
  const bool pending = services.pulls.forget(name);  // first: what it is about to store must not come after
  const auto deleted = co_await services.store_worker.run([&] { return services.store.delete_rollout(name); });
  if (!deleted.ok()) {
    co_await exchange.respond_error(from_error(deleted.error().within("cannot remove the model")));
    co_return;
  }
  const bool known = services.rollouts.remove(name);
  if (!known && !*deleted && !pending) {
    co_await respond_no_such_model(exchange);
    co_return;
  }
  spdlog::info("{}: removed", name.str());
  const json::object answer{{"name", base::public_model(name)}, {"deleted", true}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> stop_model(Server& server, Exchange& exchange) {
  controller::Controller& controller = server.services().controller;
  const base::ModelName name = exchange.model();
  if (controller.find(server.services().rollouts.serving(name)) == nullptr) {
    co_await respond_no_such_model(exchange);
    co_return;
  }
  if (const auto refused = refuse_adapter(server, name, "stop")) {
    co_await exchange.respond_error(*refused);
    co_return;
  }
  std::uint32_t stopping = 0;
  std::vector<base::ModelName> revisions;
  for (const auto& [runs_as, entry] : controller.models())
    if (base::model_of(runs_as) == name) revisions.push_back(runs_as);
  for (const control::InstanceView& view : controller.scheduler().instances())
    if (base::model_of(view.model) == name && view.state != control::InstanceState::stopping) ++stopping;
  for (const base::ModelName& runs_as : revisions) controller.stop(runs_as, exchange.query("kill") == "1");
  const json::object answer{{"name", base::public_model(name)}, {"stopping", stopping}};
  co_await respond_json(exchange, 200, answer);
}

}  // namespace thaw::gateway::admin
