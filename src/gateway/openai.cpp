#include "gateway/openai.h"
#include "gateway/admin_container_images.h"

#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <chrono>

#include <fmt/format.h>

#include "base/revision.h"
#include "base/tenancy.h"
#include "controller/adapters.h"
#include "gateway/admin_pulls.h"
#include "gateway/body_patch.h"
#include "gateway/body_scan.h"
#include "gateway/form_scan.h"
#include "gateway/priority.h"
#include "gateway/relay.h"
#include "gateway/routes.h"
#include "gateway/server.h"
#include "gateway/usage_meter.h"

namespace thaw::gateway::openai {
namespace {

constexpr std::size_t kScanOnLoopBytes = 256 * 1024;  ///< about half a millisecond

/// The parts of the start that the request waited for, counted from its arrival.
std::vector<wire::Phase> start_phases(const Exchange& exchange, const Relay::Outcome& outcome) {
  if (!outcome.cold || !outcome.replica) return {};
  std::vector<wire::Phase> phases = outcome.replica->phases();
  for (wire::Phase& phase : phases) phase.start += outcome.replica->ordered_at() - exchange.arrived();
  return phases;
}

observe::Found found(const Relay::Outcome& outcome) {
  if (!outcome.cold) return observe::Found::warm;
  switch (outcome.way) {
    case wire::Way::wake: return observe::Found::woken;
    case wire::Way::restore: return observe::Found::restored;
    case wire::Way::start: break;
  }
  return observe::Found::cold;
}

store::UsageOutcome usage_outcome(const Relay::Outcome& outcome) {
  constexpr int kClientLeft = 499;
  constexpr int kFirstError = 400;
  if (outcome.status == kClientLeft) return store::UsageOutcome::cancelled;
  if (outcome.attempts == 0 && outcome.refused) return store::UsageOutcome::refused;
  if (outcome.status >= kFirstError || !outcome.failure.empty()) return store::UsageOutcome::failed;
  return store::UsageOutcome::ok;
}

store::UsageWay usage_way(const Relay::Outcome& outcome) {
  if (!outcome.cold) return store::UsageWay::warm;
  switch (outcome.way) {
    case wire::Way::wake: return store::UsageWay::woken;
    case wire::Way::restore: return store::UsageWay::restored;
    case wire::Way::start: break;
  }
  return store::UsageWay::cold;
}

store::UsageClosing usage_closing(const Relay::Outcome& outcome) {
  store::UsageClosing closing;
  closing.ended_unix_ms = net::unix_ms();
  closing.outcome = usage_outcome(outcome);
  closing.way = usage_way(outcome);
  closing.status = static_cast<std::uint16_t>(outcome.status);
  closing.prompt_tokens = outcome.tokens.prompt;
  closing.completion_tokens = outcome.tokens.completion;
  closing.wait_us = static_cast<std::uint64_t>(base::duration_cast<std::chrono::microseconds>(outcome.queued).count());
  return closing;
}

void account(Server& server, Exchange& exchange, const controller::ModelEntry& model,
             const Relay::Outcome& outcome, UsageMeter& meter) {
  const base::TimePoint end = net::Loop::clock();
  const base::TimePoint arrived = exchange.arrived();
  const bool first_sent = outcome.first_byte != base::TimePoint{};
  RequestRecord& record = server.requests().record(exchange.id());
  record.model = model.spec.name;
  record.tenant = exchange.caller().tenant;
  record.revision = server.services().rollouts.number_of(model.spec.name);
  record.key = exchange.caller().key;
  record.status = outcome.status;
  record.done = true;
  record.cold = outcome.cold;
  record.way = outcome.way;
  record.why = outcome.why;
  record.attempts = outcome.attempts;
  record.queued = outcome.queued;
  record.first_byte = first_sent ? outcome.first_byte - arrived : base::Duration::zero();
  record.total = end - arrived;
  record.prompt_tokens = outcome.tokens.prompt;
  record.completion_tokens = outcome.tokens.completion;
  record.failure = outcome.failure;
  record.start_phases = start_phases(exchange, outcome);

  exchange.charge_tokens(std::uint64_t{record.prompt_tokens} + record.completion_tokens);
  Services& services = server.services();
  observe::Metrics::request_finished(*model.probe, {outcome.status, found(outcome), outcome.queued, record.first_byte,
                                                    record.total, record.prompt_tokens, record.completion_tokens});
  if (outcome.attempts > 1) services.metrics.request_retried(model.spec.name.str());
  if (outcome.status == 499) services.metrics.client_left();
  meter.close(usage_closing(outcome));
}

base::Result<BodyFacts> facts_of(std::string_view body, BodyForm form, std::string_view content_type) {
  return form == BodyForm::form ? scan_form(body, content_type) : scan_body(body);
}

/// The model that the client means by a name of its own or an alias; a name that nobody has, if it may not ask it.
base::ModelName meant(Server& server, const Exchange& exchange, const std::string& said) {
  if (said.find(base::kTenantMark) != std::string::npos) return exchange.model_named(said);
  const base::ModelName name = base::qualified(exchange.tenant().str(), said);
  if (const auto model = server.services().controller.share(name.str())) return exchange.model_named(base::public_model(model->spec.name));
  if (const auto* const pending = server.services().pulls.meant(name)) return exchange.model_named(base::public_name(pending->spec.name));
  return exchange.model_named(said);
}

/// Whether the engine is told by the body which adapter is meant, and how. `serves`: whose replicas answer (node/engine/lora.h says why so).
void choose_adapter(const controller::ModelEntry& model, const controller::ModelEntry& serves, std::vector<BodySetting>& all) {
  const std::vector<spec::Adapter>& adapters = serves.spec.adapters;
  if (adapters.empty()) return;
  const bool meant = model.spec.is_adapter();
  const std::string name = base::public_model(model.spec.name);
  if (serves.spec.engine == spec::EngineKind::llama_cpp) {
    const std::size_t id = meant ? place_of_adapter(serves.spec, name, model.spec.source.path).value_or(0) : 0;
    all.push_back({"lora", fmt::format(R"([{{"id":{},"scale":{}}}])", id, meant ? 1 : 0), true});
    all.push_back({"cache_prompt", "true", false});
  } else if (serves.spec.engine == spec::EngineKind::sglang) {
    all.push_back({"lora_path", meant ? "\"" + name + "\"" : "null", true});
  }
}

/// What of the body is not as the engine is to read it.
std::vector<BodySetting> settings(const controller::ModelEntry& model, const controller::ModelEntry& serves, const BodyFacts& facts,
                                  const Route& route) {
  const BodyForm form = route.body;
  std::vector<BodySetting> all;
  if (form == BodyForm::form) return all;
  const bool by_name = model.spec.is_adapter() && serves.spec.engine == spec::EngineKind::sglang;  // it knows its own model's name alone
  const std::string name = base::public_model(by_name ? serves.spec.name : model.spec.name);
  if (facts.model != name) all.push_back({"model", "\"" + std::string(name) + "\"", true});
  if (form != BodyForm::generation) return all;
  if (route.dialect == Dialect::openai) choose_adapter(model, serves, all);
  for (const auto& [key, json] : model.spec.parameters.defaults) all.push_back({key, json, false});
  for (const auto& [key, json] : model.spec.parameters.overrides) all.push_back({key, json, true});
  return all;
}

/// llama.cpp and SGLang hear of adapters in some of their routes only; in the others an answer would be their base's, with nothing to tell.
std::optional<ApiError> refuse_route(const controller::ModelEntry& model, const Exchange& exchange) {
  const Route& route = *exchange.route();
  const bool told = route.body == BodyForm::generation && route.dialect == Dialect::openai;
  if (!model.spec.is_adapter() || model.spec.engine == spec::EngineKind::vllm || told) return std::nullopt;
  return invalid_request(fmt::format("\"{}\" is an adapter, and {} answers for adapters at /v1/chat/completions, /v1/completions and /v1/responses; {} is not "
                                     "among them",
                                     base::public_model(model.spec.name), spec::to_string(model.spec.engine), route.pattern),
                         "model", "adapter_without_route");
}

/// No replica can answer for it: its base is gone, or does not start with it.
ApiError adapter_not_served(const controller::ModelEntry& model, const controller::Rollouts& rollouts) {
  const controller::RolloutLine* const line = rollouts.find(controller::base_of(model.spec));
  std::string why = line == nullptr || line->active == 0 ? "that model is not there" : line->last_failure;
  if (why.empty()) why = "no revision of it has the adapter";
  return {503,
          "server_error",
          "adapter_not_served",
          fmt::format("the replicas of \"{}\" do not have adapter \"{}\": {}; deploy the adapter again once that is mended", model.spec.base_model,
                      base::public_model(model.spec.name), why),
          "model",
          {}};
}

/// `alias`: under which it is shown; "root" says then whose it is, as vLLM has it.
boost::json::object describe(const controller::ModelEntry& model, std::string_view alias = {}) {
  const std::string_view tenant = base::tenant_part(model.spec.name);
  const std::string_view owner = tenant == base::kDefaultTenant ? "thaw" : tenant;
  const std::string name = base::public_model(model.spec.name);
  boost::json::object o{
      {"id", alias.empty() ? std::string_view(name) : alias}, {"object", "model"}, {"created", model.created_unix_ms / 1000}, {"owned_by", owner}};
  if (!alias.empty() && alias != name) o["root"] = name;
  if (model.spec.is_adapter()) o["parent"] = model.spec.base_model;  // vLLM's word
  return o;
}

}  // namespace

net::Task<void> infer(Server& server, Exchange& exchange) {
  const std::string_view body = exchange.body();
  // A big body (images, long documents) would hold up everybody else's requests.
  base::Result<BodyFacts> facts = base::Error{};
  const BodyForm form = exchange.route()->body;
  const std::string_view type = exchange.head().find("content-type").value_or("");
  if (body.size() <= kScanOnLoopBytes) {
    facts = facts_of(body, form, type);
  } else {
    facts = co_await server.services().files_worker.run([body, form, type] { return facts_of(body, form, type); });
  }
  if (!facts.ok()) {
    co_await exchange.respond_error(invalid_request(facts.error().message));
    co_return;
  }
  const auto priority = asked_priority(exchange.head());
  if (!priority.ok()) {
    co_await exchange.respond_error(invalid_request(priority.error().message));
    co_return;
  }
  controller::Controller& controller = server.services().controller;
  base::ModelName name = exchange.model_named(facts->model);
  // Of two revisions that share the requests, what begins alike goes to the same one.
  const auto session = exchange.head().find("x-session-id");
  const std::uint64_t kin = session ? affinity_of(*session) : facts->affinity != 0 ? facts->affinity : exchange.id().value();
  controller::Rollouts& rollouts = server.services().rollouts;
  std::shared_ptr<controller::ModelEntry> model = rollouts.share(name, kin);
  if (!model || base::model_of(model->spec.name) != name) {  // an alias, or none that the caller may ask
    name = meant(server, exchange, facts->model);
    model = rollouts.share(name, kin);
  }
  if (!model) {
    // Not in the argument: GCC 12 destroys the temporaries of a conditional in an awaited call twice.
    ApiError error = model_not_found(facts->model);
    if (auto pulling = still_pulling(server, name)) error = *std::move(pulling);
    co_await exchange.respond_error(error);
    co_return;
  }
  if (const auto refused = refuse_route(*model, exchange)) {
    co_await exchange.respond_error(*refused);
    co_return;
  }
  std::shared_ptr<controller::ModelEntry> serves = model;
  if (model->spec.is_adapter()) serves = rollouts.share_base(*model, kin);
  if (!serves) {
    const ApiError error = adapter_not_served(*model, rollouts);
    co_await exchange.respond_error(error);
    co_return;
  }
  if (const auto missing = image_not_here(server, serves->spec)) {
    co_await exchange.respond_error(*missing);
    co_return;
  }
  if (const auto changes = settings(*model, *serves, *facts, *exchange.route()); !changes.empty()) {
    std::string changed;
    if (body.size() <= kScanOnLoopBytes) {
      changed = patch_body(body, changes);
    } else {
      changed = co_await server.services().files_worker.run([body, &changes] { return patch_body(body, changes); });
    }
    if (!exchange.replace_body(std::move(changed))) {
      co_await exchange.respond_error(server.out_of_buffers());
      co_return;
    }
  }
  // On record before a replica has it, whatever happens to this process then.
  const UsageServices& usage = server.services().usage;
  UsageMeter meter(usage.journal, {.seq = store::usage_seq(usage.start, exchange.id().value()),
                                   .arrived_unix_ms = net::unix_ms(),
                                   .key = exchange.caller().key,
                                   .tenant = exchange.caller().tenant.str(),
                                   .model = name.str()});
  Relay relay(exchange, controller, model, serves, *facts, *priority, server.config().gateway.stream_hold, meter);
  co_await relay.run();
  account(server, exchange, *model, relay.outcome(), meter);
}

net::Task<void> list_models(Server& server, Exchange& exchange) {
  boost::json::array data;
  for (const auto& [name, model] : server.services().controller.models())
    if (name == server.services().rollouts.serving(base::model_of(name)) && base::tenant_part(name) == exchange.tenant().str() && exchange.sees(name)) {
      data.push_back(describe(*model));
      for (const std::string& alias : model->spec.aliases) data.push_back(describe(*model, alias));
    }
  const std::string body = boost::json::serialize(boost::json::object{{"object", "list"}, {"data", std::move(data)}});
  co_await exchange.respond(200, "application/json", body);
}

net::Task<void> show_model(Server& server, Exchange& exchange) {
  const std::string name(exchange.parameter());
  const auto model = server.services().rollouts.share(meant(server, exchange, name), 0);
  if (!model) {
    co_await exchange.respond_error(model_not_found(name));
    co_return;
  }
  const std::string body = boost::json::serialize(describe(*model, name));
  co_await exchange.respond(200, "application/json", body);
}

}  // namespace thaw::gateway::openai
