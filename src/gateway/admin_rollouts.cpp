// Revisions of models: what there is, back to one of before, and how two share the requests.
#include <charconv>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "base/revision.h"
#include "base/tenancy.h"
#include "controller/adapters.h"
#include "controller/rollouts.h"
#include "gateway/admin.h"
#include "gateway/admin_adapters.h"
#include "gateway/deploy_rules.h"
#include "gateway/server.h"
#include "spec/parse.h"

namespace thaw::gateway::admin {

/// A whole number of the query string; nothing when it is absent.
base::Result<std::optional<std::uint32_t>> number_in_query(const Exchange& exchange, std::string_view name,
                                                           std::uint32_t least, std::uint32_t most) {
  const std::string_view text = exchange.query(name);
  if (text.empty()) return std::optional<std::uint32_t>();
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < least || number > most)
    return base::Error{base::ErrorKind::invalid,
                       fmt::format("?{}= must be a whole number from {} to {}", name, least, most)};
  return std::optional<std::uint32_t>(number);
}

namespace {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;
using controller::RolloutLine;

const char* state_of(const RolloutLine& line, const store::StoredRevision& revision) {
  if (revision.number == line.active) return "serving";
  if (revision.number == line.candidate) return line.stage == control::RolloutStage::split ? "split" : "starting";
  return revision.failure.empty() ? "kept" : "failed";
}

json::object describe(const RolloutLine& line, const store::StoredRevision& revision) {
  std::uint32_t percent = 0;
  const bool split = line.stage == control::RolloutStage::split;
  if (revision.number == line.active) percent = split ? 100 - line.percent : 100;
  if (revision.number == line.candidate && split) percent = line.percent;
  return {
      {"number", revision.number},
      {"state", state_of(line, revision)},
      {"percent", percent},
      {"failure", revision.failure.empty() ? json::value(nullptr) : json::value(revision.failure)},
      {"created_unix_ms", revision.created_unix_ms},
      {"served_unix_ms", revision.served_unix_ms == 0 ? json::value(nullptr) : json::value(revision.served_unix_ms)},
      {"spec", json::parse(revision.spec_json).at("spec")}};
}

/// The one that served last before the one that does.
std::uint32_t served_before(const RolloutLine& line) {
  const store::StoredRevision* best = nullptr;
  for (const auto& [number, revision] : line.revisions)
    if (number != line.active && number != line.candidate && revision.served_unix_ms > 0 &&
        (best == nullptr || revision.served_unix_ms > best->served_unix_ms ||
         (revision.served_unix_ms == best->served_unix_ms && number > best->number)))
      best = &revision;
  return best == nullptr ? 0 : best->number;
}

net::Task<void> respond_refused(Exchange& exchange, const Error& error, const char* code) {
  ApiError refused = from_error(error);
  refused.code = code;
  co_await exchange.respond_error(refused);
}

/// What `number` is of, looked into as a deploy does it. What a tenant may use has perhaps changed since then; what was
/// pulled for it, it had.
base::Result<node::ModelFacts> look_into(Server& server, spec::ModelSpec& spec, const SourceRule& sources,
                                         std::uint32_t number) {
  if (!spec.source.remote()) THAW_RETURN_IF_ERROR(keep_to_sources(spec, sources));
  if (server.services().pulls.must_wait(spec))
    return Error{
        ErrorKind::not_found,
        fmt::format("the files of revision {} are no longer in the store; deploy its source again to pull them",
                    number)};
  auto facts = node::inspect_model(spec);
  if (!facts.ok()) return facts.error().within(fmt::format("revision {} cannot be served any more", number));
  return facts;
}

/// Brings a kept revision into service as if it were deployed. `percent`: of the requests; else all. `why`: for the
/// events.
net::Task<void> bring_back(Server& server, Exchange& exchange, const base::ModelName model, const std::uint32_t number,
                           const std::uint32_t percent, const std::string why) {
  Services& services = server.services();
  const RolloutLine* line = services.rollouts.find(model);
  const store::StoredRevision* const kept = line == nullptr ? nullptr : line->find(number);
  if (kept == nullptr) {
    const Error absent{ErrorKind::not_found,
                       fmt::format("{0} has no revision {1} any more; `thaw revisions {0}` lists them",
                                   base::public_model(model), number)};
    co_await respond_refused(exchange, absent, "revision_not_found");
    co_return;
  }
  const bool memory_estimated = kept->memory_estimated;
  auto spec = spec::parse_model(kept->spec_json, "store:" + model.str(), "/");
  if (!spec.ok()) {
    co_await respond_refused(exchange, spec.error(), "revision_unusable");
    co_return;
  }
  spec->name = model;
  controller::ModelEntry entry;
  entry.spec = *std::move(spec);
  entry.memory_estimated = memory_estimated && !entry.spec.is_adapter();
  controller::take_adapters(entry, {});  // those of then; it gets those of now
  const SourceRule sources = source_rule(exchange.caller(), server.tenants().find(exchange.tenant()));
  auto facts = co_await services.files_worker.run([&] { return look_into(server, entry.spec, sources, number); });
  if (!facts.ok()) {
    co_await respond_refused(exchange, facts.error(), "revision_unusable");
    co_return;
  }
  std::optional<ApiError> unfit;
  if (entry.spec.is_adapter()) unfit = co_await look_into_adapter(server, entry.spec, percent, *facts);
  else unfit = co_await check_base(server, entry.spec);
  if (unfit) {
    co_await exchange.respond_error(*unfit);
    co_return;
  }
  base::Status fits;
  if (!entry.spec.is_adapter()) fits = services.controller.can_ever_run(entry.spec);
  if (!fits.ok()) {
    co_await respond_refused(exchange, fits.error(), "cannot_fit");
    co_return;
  }
  const auto active = services.controller.share(services.rollouts.serving(model).str());
  entry.weights_bytes = facts->weights_bytes;
  entry.created_unix_ms = active ? active->created_unix_ms : net::unix_ms();
  entry.updated_unix_ms = net::unix_ms();
  auto plan = services.rollouts.plan(std::move(entry), facts->files, {.percent = percent}, number);
  const auto usage_ref = co_await services.store_worker.run([&]() -> base::Result<std::uint32_t> {
    THAW_RETURN_IF_ERROR(services.store.change_rollout(plan.change));
    return services.store.model_ref(model);
  });
  if (!usage_ref.ok()) {
    co_await exchange.respond_error(from_error(usage_ref.error()));
    co_return;
  }
  plan.entry.usage_ref = *usage_ref;
  plan.why = why;
  const char* const how = to_string(plan.succession);
  services.pulls.forget(model);
  services.rollouts.carry_out(std::move(plan));
  json::object answer{{"name", base::public_model(model)},
                      {"tenant", base::tenant_part(model)},
                      {"revision", number},
                      {"succession", how}};
  add_rollout_of(server, model, answer);
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> change_share(Server& server, Exchange& exchange, const base::ModelName model,
                             const std::uint32_t percent, const std::string why) {
  Services& services = server.services();
  auto change = services.rollouts.plan_percent(model, percent);
  if (!change.ok()) {
    co_await respond_refused(exchange, change.error(), "no_rollout");
    co_return;
  }
  const base::Status stored =
      co_await services.store_worker.run([&] { return services.store.change_rollout(*change); });
  if (!stored.ok()) {
    co_await exchange.respond_error(from_error(stored.error()));
    co_return;
  }
  services.rollouts.set_percent(model, percent, why);
  json::object answer{{"name", base::public_model(model)}, {"tenant", base::tenant_part(model)}};
  add_rollout_of(server, model, answer);
  co_await respond_json(exchange, 200, answer);
}

/// The revisions of a model that is there; else nullptr, and it was answered that it is not.
net::Task<const RolloutLine*> line_that_serves(Server& server, Exchange& exchange, const base::ModelName model) {
  const RolloutLine* const line = server.services().rollouts.find(model);
  if (line != nullptr && line->active != 0) co_return line;
  co_await respond_no_such_model(exchange);
  co_return nullptr;
}

}  // namespace

void add_rollout_of(Server& server, const base::ModelName& model, json::object& into) {
  const RolloutLine* const line = server.services().rollouts.find(base::model_of(model));
  if (line == nullptr || line->active == 0) return;
  into["revision"] = line->active;
  json::value& rollout = into["rollout"];
  rollout = nullptr;
  if (line->candidate == 0 && line->last_failure.empty() && line->retiring.empty()) return;
  rollout = json::object{{"stage", to_string(line->stage)},
                         {"candidate", line->candidate == 0 ? json::value(nullptr) : json::value(line->candidate)},
                         {"percent", line->percent},
                         {"draining", line->retiring.size()},
                         {"last_failure", line->last_failure}};
}

net::Task<void> list_revisions(Server& server, Exchange& exchange) {
  const base::ModelName model = exchange.model();
  const RolloutLine* const line = co_await line_that_serves(server, exchange, model);
  if (line == nullptr) co_return;
  json::array revisions;
  for (const auto& [number, revision] : line->revisions) revisions.push_back(describe(*line, revision));
  json::object answer{
      {"name", base::public_model(model)}, {"tenant", base::tenant_part(model)}, {"revisions", std::move(revisions)}};
  add_rollout_of(server, model, answer);
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> rollback_model(Server& server, Exchange& exchange) {
  const base::ModelName model = exchange.model();
  const RolloutLine* const line = co_await line_that_serves(server, exchange, model);
  if (line == nullptr) co_return;
  const auto to = number_in_query(exchange, "to", 1, 1'000'000'000);
  if (!to.ok()) {
    co_await exchange.respond_error(from_error(to.error()));
    co_return;
  }
  if (!*to && line->candidate != 0) {
    // What is on its way has not served everybody yet: going back is to leave it.
    co_await change_share(server, exchange, model, 0, "rolled back");
    co_return;
  }
  const std::uint32_t number = (*to).value_or(served_before(*line));
  if (number == 0) {
    const Error none{ErrorKind::conflict, base::public_model(model) + " has no revision that served before this one"};
    co_await respond_refused(exchange, none, "revision_not_found");
    co_return;
  }
  if (number == line->active && line->candidate == 0) {
    const Error already{ErrorKind::conflict,
                        fmt::format("revision {} of {} serves already", number, base::public_model(model))};
    co_await respond_refused(exchange, already, "serves_already");
    co_return;
  }
  if (number == line->active) {
    co_await change_share(server, exchange, model, 0, "rolled back");
    co_return;
  }
  const std::string why = fmt::format("rolled back to revision {}", number);
  co_await bring_back(server, exchange, model, number, 100, why);
}

net::Task<void> roll_out_model(Server& server, Exchange& exchange) {
  const base::ModelName model = exchange.model();
  const RolloutLine* const line = co_await line_that_serves(server, exchange, model);
  if (line == nullptr) co_return;
  const auto to = number_in_query(exchange, "to", 1, 1'000'000'000);
  const auto percent = number_in_query(exchange, "percent", 0, 100);
  if (!to.ok() || !percent.ok()) {
    const Error wrong = to.ok() ? percent.error() : to.error();
    co_await exchange.respond_error(from_error(wrong));
    co_return;
  }
  const std::uint32_t share = (*percent).value_or(100);
  const std::uint32_t number = (*to).value_or(line->candidate);
  if (number == line->candidate || number == 0) {
    co_await change_share(server, exchange, model, share, "given up by hand");
    co_return;
  }
  if (number == line->active || share == 0) {
    std::string why = fmt::format("revision {} gets no requests as it is", number);
    if (number == line->active)
      why = fmt::format("revision {} of {} serves already", number, base::public_model(model));
    const Error refused{ErrorKind::conflict, std::move(why)};
    co_await respond_refused(exchange, refused, "serves_already");
    co_return;
  }
  const std::string why = fmt::format("{}% for revision {} by hand", share, number);
  co_await bring_back(server, exchange, model, number, share, why);
}

}  // namespace thaw::gateway::admin
