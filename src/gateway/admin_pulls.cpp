#include "gateway/admin_pulls.h"

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "base/tenancy.h"
#include "base/units.h"
#include "gateway/admin.h"
#include "gateway/server.h"
#include "spec/parse.h"
#include "spec/source_ref.h"

namespace thaw::gateway {
namespace {

namespace json = boost::json;
using controller::PendingModel;
using node::pull::PullState;
using node::pull::PullView;

std::optional<PullView> view_of(Server& server, const PendingModel& model) {
  auto view = server.services().pulls.puller().look(model.pull);
  if (!view.ok()) return std::nullopt;
  return *std::move(view);
}

std::uint64_t percent(const PullView& view) {
  if (view.total_bytes == 0) return 0;
  const std::uint64_t whole = std::min<std::uint64_t>(100, view.done_bytes * 100 / view.total_bytes);
  return view.ended() ? whole : std::min<std::uint64_t>(whole, 99);
}

/// Seconds to go at the present rate; nothing while there is none.
std::optional<double> eta_s(const PullView& view) {
  if (view.state != PullState::fetching || view.bytes_per_s <= 0 || view.total_bytes <= view.done_bytes) return std::nullopt;
  return static_cast<double>(view.total_bytes - view.done_bytes) / view.bytes_per_s;
}

json::object describe(const PullView& view) {
  const auto eta = eta_s(view);
  json::object o{{"id", view.id},
                 {"source", view.source},
                 {"state", to_string(view.state)},
                 {"total_bytes", view.total_bytes},
                 {"done_bytes", view.done_bytes},
                 {"fetched_bytes", view.fetched_bytes},
                 {"percent", percent(view)},
                 {"bytes_per_second", view.bytes_per_s},
                 {"eta_s", eta ? json::value(*eta) : json::value(nullptr)},
                 {"file", view.file.empty() ? json::value(nullptr) : json::value(view.file)},
                 {"path", view.path.empty() ? json::value(nullptr) : json::value(view.path)},
                 {"error", nullptr},
                 {"begun_unix_ms", view.begun_unix_ms},
                 {"ended_unix_ms", view.ended_unix_ms == 0 ? json::value(nullptr) : json::value(view.ended_unix_ms)}};
  if (view.state == PullState::failed) o["error"] = json::object{{"kind", to_string(view.error.kind)}, {"message", view.error.message}};
  return o;
}

/// The pull, with the models that wait for it.
json::object describe(Server& server, const PullView& view) {
  json::object o = describe(view);
  json::array models;
  for (const base::ModelName& name : server.services().pulls.waiting_for(view.id)) models.push_back(json::value(name.str()));
  o["models"] = std::move(models);
  return o;
}

/// A model's own state of its pull: what became of the files after they were there counts too.
json::object describe_pull(Server& server, const PendingModel& model) {
  json::object o;
  if (const auto view = view_of(server, model)) o = describe(*view);
  if (model.failure) {
    o["state"] = "failed";
    o["error"] = json::object{{"kind", to_string(model.failure->kind)}, {"message", model.failure->message}};
  }
  return o;
}

json::object describe(Server& server, const PendingModel& model) {
  const spec::ModelSpec& spec = model.spec;
  return {{"name", base::public_name(spec.name)},
          {"tenant", base::tenant_part(spec.name)},
          {"state", model.failure ? "not pulled" : "pulling"},
          {"pull", describe_pull(server, model)},
          {"source", spec::to_string(spec.source)},
          {"engine", to_string(spec.engine)},
          {"device", to_string(spec.resources.device)},
          {"device_memory_bytes", spec.resources.device_memory_bytes.value_or(0)},
          {"min_replicas", spec.scaling.min_replicas},
          {"max_replicas", spec.scaling.max_replicas},
          {"last_failure", model.failure ? model.failure->message : ""},
          {"created_unix_ms", model.created_unix_ms},
          {"updated_unix_ms", model.updated_unix_ms}};
}

std::optional<std::uint64_t> id_of(std::string_view text) {
  std::uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return id;
}

base::Result<PullView> view_of(Server& server, std::string_view text) {
  const auto id = id_of(text);
  if (!id) return base::Error{base::ErrorKind::not_found, fmt::format("there is no pull \"{}\"", text)};
  return server.services().pulls.puller().look(*id);
}

/// What a client wants pulled: a model of ours, or a source.
struct Wanted {
  std::string model;
  spec::Source source;
  bool directory = false;
};

base::Result<Wanted> read_wanted(std::string_view body) {
  const auto wrong = [](std::string why) {
    return base::Error{base::ErrorKind::invalid,
                       std::move(why) + R"(; send {"model": NAME}, or {"source": {"hf": "org/repo"}}, or {"source": {"url": "https://…"}})"};
  };
  json::error_code error;
  const json::value document = json::parse({body.data(), body.size()}, error);
  if (error || !document.is_object()) return wrong("the body is no JSON object");
  const json::object& object = document.get_object();
  Wanted wanted;
  if (const auto* model = object.if_contains("model"); model != nullptr && model->is_string()) {
    wanted.model = std::string(model->get_string());
    return wanted;
  }
  const auto* source = object.if_contains("source");
  if (source == nullptr || !source->is_object()) return wrong("it names nothing to pull");
  // By the reader of specs, so that the rules stand once.
  json::object spec{{"source", *source}};
  const std::string text =
      json::serialize(json::object{{"apiVersion", "thaw/v1"}, {"kind", "Model"}, {"metadata", {{"name", "m"}}}, {"spec", std::move(spec)}});
  THAW_ASSIGN_OR_RETURN(const spec::ModelSpec read, spec::parse_model(text, "", ""));
  if (!read.source.remote()) return wrong("a path on the server's machine needs no pull");
  wanted.source = read.source;
  wanted.source.path.clear();
  const auto* directory = object.if_contains("safetensors");
  wanted.directory = directory != nullptr && directory->is_bool() && directory->get_bool();
  return wanted;
}

}  // namespace

std::optional<ApiError> still_pulling(Server& server, const base::ModelName& name) {
  const PendingModel* const model = server.services().pulls.find(name);
  if (model == nullptr) return std::nullopt;
  if (model->failure) {
    ApiError error{503,
                   "server_error",
                   "model_not_pulled",
                   fmt::format("the files of model \"{}\" could not be pulled: {}", base::public_name(name), model->failure->message),
                   "model",
                   {}};
    if (model->retry_at != base::never()) error.retry_after = std::max<base::Duration>(base::Seconds(1), model->retry_at - server.loop().now());
    return error;
  }
  const auto view = view_of(server, *model);
  std::string how = "they wait for other pulls";
  base::Duration retry_after = base::Seconds(5);
  if (view && view->state != PullState::queued) {
    how = fmt::format("{}% of {}", percent(*view), base::format_bytes(view->total_bytes));
    if (view->total_bytes == 0) how = "just begun";
    if (const auto eta = eta_s(*view)) {
      how += fmt::format(", {} to go", base::format_duration(base::Seconds(static_cast<std::int64_t>(*eta) + 1)));
      retry_after = base::Seconds(static_cast<std::int64_t>(*eta) + 1);
    }
  }
  return ApiError{503,
                  "server_error",
                  "model_pulling",
                  fmt::format("the files of model \"{}\" are being pulled: {}; `thaw pull {}` shows how it goes", base::public_name(name), how, base::public_name(name)),
                  "model",
                  retry_after};
}

namespace admin {

void add_pending_models(Server& server, const Exchange& exchange, json::array& models) {
  for (json::value& model : models) {
    json::object& object = model.get_object();
    const std::string tenant(object.at("tenant").get_string());
    const std::string name(object.at("name").get_string());
    add_pull_of(server, base::qualified(tenant, name), object);
  }
  for (const auto& [name, model] : server.services().pulls.pending())
    if (exchange.sees(name) && server.services().controller.find(server.services().rollouts.serving(name)) == nullptr) models.push_back(describe(server, model));
}

void add_pull_of(Server& server, const base::ModelName& name, json::object& model) {
  if (const PendingModel* const pending = server.services().pulls.find(name)) model["pull"] = describe_pull(server, *pending);
}

net::Task<bool> show_pending_model(Server& server, Exchange& exchange, base::ModelName name) {
  const PendingModel* const model = server.services().pulls.find(name);
  if (model == nullptr) co_return false;
  json::object o = describe(server, *model);
  o["spec"] = json::parse(spec::to_json(model->spec)).at("spec");
  co_await respond_json(exchange, 200, o);
  co_return true;
}

net::Task<void> deploy_after_pull(Server& server, Exchange& exchange, spec::ModelSpec spec, const base::Duration takeover_timeout) {
  Services& services = server.services();
  const base::ModelName name = spec.name;
  const std::int64_t now_ms = net::unix_ms();
  const auto* before = services.controller.find(services.rollouts.serving(name));
  const std::int64_t created_ms = before != nullptr ? before->created_unix_ms : now_ms;
  const bool memory_estimated = !spec.resources.device_memory_bytes.has_value();
  const auto stored = co_await services.store_worker.run([&] {
    return services.store.put_pending_model({name, spec::to_json(spec), created_ms, now_ms, memory_estimated,
                                              base::duration_cast<base::Millis>(takeover_timeout).count()});
  });
  if (!stored.ok()) {
    co_await exchange.respond_error(from_error(stored.error().within("cannot store the model")));
    co_return;
  }
  json::object answer{
      {"name", base::public_name(name)}, {"tenant", base::tenant_part(name)}, {"created", before == nullptr}, {"state", "pulling"}, {"spec", json::parse(spec::to_json(spec)).at("spec")}};
  services.pulls.add(std::move(spec), created_ms, now_ms, takeover_timeout);
  if (const PendingModel* const model = services.pulls.find(name)) answer["pull"] = describe_pull(server, *model);
  co_await respond_json(exchange, 202, answer);
}

void add_pull_levels(Server& server, observe::Levels& levels) {
  controller::Pulls& pulls = server.services().pulls;
  const auto totals = pulls.puller().totals();
  levels.pulled_bytes = static_cast<double>(totals.fetched_bytes);
  levels.pulls_running = static_cast<double>(totals.running);
  levels.pulls_waiting = static_cast<double>(totals.waiting);
  levels.pull_bytes_per_second = totals.bytes_per_s;
  const auto usage = pulls.blobs().usage();
  levels.store_bytes = static_cast<double>(usage.blob_bytes + usage.part_bytes);
}

net::Task<void> list_pulls(Server& server, Exchange& exchange) {
  json::array pulls;
  for (const PullView& view : server.services().pulls.puller().all()) pulls.push_back(describe(server, view));
  const json::object answer{{"pulls", std::move(pulls)}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> start_pull(Server& server, Exchange& exchange) {
  const auto wanted = read_wanted(exchange.body());
  if (!wanted.ok()) {
    co_await exchange.respond_error(invalid_request(wanted.error().message, {}, "invalid_source"));
    co_return;
  }
  controller::Pulls& pulls = server.services().pulls;
  exchange.audit_subject(wanted->model.empty() ? spec::to_string(wanted->source) : wanted->model);
  const auto id =
      wanted->model.empty() ? pulls.puller().start({wanted->source, wanted->directory, true}) : pulls.pull_model(exchange.model_named(wanted->model));
  if (!id.ok()) {
    ApiError error = from_error(id.error());
    if (id.error().kind == base::ErrorKind::not_found) error.code = "model_not_found";
    if (id.error().kind == base::ErrorKind::exhausted) error.status = 429;
    co_await exchange.respond_error(error);
    co_return;
  }
  const auto view = pulls.puller().look(*id);
  if (!view.ok()) {
    co_await exchange.respond_error(from_error(view.error()));
    co_return;
  }
  co_await respond_json(exchange, 202, describe(server, *view));
}

net::Task<void> show_pull(Server& server, Exchange& exchange) {
  const auto view = view_of(server, exchange.parameter());
  if (view.ok())
    co_await respond_json(exchange, 200, describe(server, *view));
  else
    co_await exchange.respond_error(from_error(view.error()));
}

net::Task<void> cancel_pull(Server& server, Exchange& exchange) {
  controller::Pulls& pulls = server.services().pulls;
  const auto view = view_of(server, exchange.parameter());
  if (!view.ok()) {
    co_await exchange.respond_error(from_error(view.error()));
    co_return;
  }
  if (const auto models = pulls.waiting_for(view->id); !models.empty()) {
    const base::Error wanted{base::ErrorKind::conflict,
                             fmt::format("model {} waits for it; `thaw rm {}` ends both", models.front().str(), models.front().str())};
    co_await exchange.respond_error(from_error(wanted));
    co_return;
  }
  const bool cancelled = pulls.puller().cancel(view->id);
  const json::object answer{{"id", view->id}, {"cancelled", cancelled}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> show_store(Server& server, Exchange& exchange) {
  controller::Pulls& pulls = server.services().pulls;
  std::map<std::string, json::array> models_at;
  for (const auto& [name, model] : server.services().controller.models())
    if (model->spec.source.remote()) models_at[model->spec.source.path].push_back(json::value(name.str()));
  const json::object answer = co_await server.services().files_worker.run([&] {
    json::array sets;
    for (const node::pull::PulledSet& set : pulls.blobs().sets()) {
      const std::string path = pulls.blobs().path_of(set);
      json::array files;
      for (const auto& file : set.files) files.push_back(json::object{{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
      sets.push_back(json::object{{"source", set.source},
                                  {"revision", set.revision.empty() ? json::value(nullptr) : json::value(set.revision)},
                                  {"bytes", set.bytes()},
                                  {"path", path},
                                  {"pulled_unix_ms", set.pulled_unix_ms},
                                  {"models", models_at[path]},
                                  {"files", std::move(files)}});
    }
    const auto usage = pulls.blobs().usage();
    return json::object{{"sources", std::move(sets)},
                        {"used_bytes", usage.blob_bytes + usage.part_bytes},
                        {"unfinished_bytes", usage.part_bytes},
                        {"budget_bytes", usage.budget_bytes ? json::value(*usage.budget_bytes) : json::value(nullptr)},
                        {"free_bytes", usage.free_bytes}};
  });
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> collect_store(Server& server, Exchange& exchange) {
  controller::Pulls& pulls = server.services().pulls;
  const bool dry_run = exchange.query("dry_run") == "1";
  const std::vector<std::string> used = pulls.used_paths();
  const auto garbage =
      co_await server.services().files_worker.run([&] { return pulls.blobs().collect(std::set<std::string>(used.begin(), used.end()), dry_run); });
  if (!garbage.ok()) {
    co_await exchange.respond_error(from_error(garbage.error()));
    co_return;
  }
  constexpr std::string_view kOf = "pulled files";
  co_await respond_collected(exchange, dry_run, *garbage, kOf);
}

}  // namespace admin
}  // namespace thaw::gateway
