#include "gateway/openai.h"

#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <chrono>

#include "gateway/admin_pulls.h"
#include "gateway/body_scan.h"
#include "gateway/priority.h"
#include "gateway/relay.h"
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

boost::json::object describe(const controller::ModelEntry& model) {
  const std::string_view tenant = base::tenant_part(model.spec.name);
  const std::string_view owner = tenant == base::kDefaultTenant ? "thaw" : tenant;
  return {{"id", base::public_name(model.spec.name)},
          {"object", "model"},
          {"created", model.created_unix_ms / 1000},
          {"owned_by", owner}};
}

}  // namespace

net::Task<void> infer(Server& server, Exchange& exchange) {
  const std::string_view body = exchange.body();
  // A big body (images, long documents) would hold up everybody else's requests.
  base::Result<BodyFacts> facts = base::Error{};
  if (body.size() <= kScanOnLoopBytes) {
    facts = scan_body(body);
  } else {
    facts = co_await server.services().files_worker.run([body] { return scan_body(body); });
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
  const base::ModelName name = exchange.model_named(facts->model);
  std::shared_ptr<controller::ModelEntry> model = controller.share(name.str());
  if (!model) {
    // Not in the argument: GCC 12 destroys the temporaries of a conditional in an awaited call twice.
    ApiError error = model_not_found(facts->model);
    if (auto pulling = still_pulling(server, name)) error = *std::move(pulling);
    co_await exchange.respond_error(error);
    co_return;
  }
  // On record before a replica has it, whatever happens to this process then.
  const UsageServices& usage = server.services().usage;
  UsageMeter meter(usage.journal, {.seq = store::usage_seq(usage.start, exchange.id().value()),
                                   .arrived_unix_ms = net::unix_ms(),
                                   .key = exchange.caller().key,
                                   .tenant = exchange.caller().tenant.str(),
                                   .model = model->spec.name.str()});
  Relay relay(exchange, controller, model, *facts, *priority, server.config().gateway.stream_hold, meter);
  co_await relay.run();
  account(server, exchange, *model, relay.outcome(), meter);
}

net::Task<void> list_models(Server& server, Exchange& exchange) {
  boost::json::array data;
  for (const auto& [name, model] : server.services().controller.models())
    if (base::tenant_part(name) == exchange.tenant().str() && exchange.sees(name)) data.push_back(describe(*model));
  const std::string body = boost::json::serialize(boost::json::object{{"object", "list"}, {"data", std::move(data)}});
  co_await exchange.respond(200, "application/json", body);
}

net::Task<void> show_model(Server& server, Exchange& exchange) {
  const std::string name(exchange.parameter());
  const auto model = server.services().controller.share(exchange.model().str());
  if (!model) {
    co_await exchange.respond_error(model_not_found(name));
    co_return;
  }
  const std::string body = boost::json::serialize(describe(*model));
  co_await exchange.respond(200, "application/json", body);
}

}  // namespace thaw::gateway::openai
