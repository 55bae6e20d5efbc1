#include "controller/pulls.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/revision.h"
#include "base/tenancy.h"
#include "base/units.h"
#include "controller/adapters.h"
#include "spec/parse.h"
#include "spec/source_ref.h"

namespace thaw::controller {
namespace {

using base::Error;
using base::ErrorKind;
using base::ModelName;
using node::pull::PullOrder;
using node::pull::PullView;

PullOrder order_of(const spec::ModelSpec& spec, bool refresh) {
  PullOrder order;
  order.source = spec.source;
  order.source.path.clear();
  order.directory_wanted = spec.engine != spec::EngineKind::llama_cpp;
  order.refresh = refresh;
  return order;
}

/// Waiting may help.
bool passes(ErrorKind kind) {
  return kind == ErrorKind::unavailable || kind == ErrorKind::timeout;
}

}  // namespace

Pulls::Pulls(Surroundings surroundings) : in_(std::move(surroundings)), retry_timer_(in_.loop, [this] { retry_due(); }) {
  puller_ =
      std::make_unique<node::pull::Puller>(in_.blobs, in_.options, [this](const PullView& view) { in_.loop.post([this, view] { ended(view); }); });
}

Pulls::~Pulls() = default;

base::Status Pulls::load() {
  THAW_ASSIGN_OR_RETURN(const auto pending, in_.store.pending_models());
  THAW_ASSIGN_OR_RETURN(const auto models, in_.store.models());
  const auto take = [&](const store::StoredModel& stored) {
    auto spec = spec::parse_model(stored.spec_json, "store:" + stored.name.str(), "/");
    if (!spec.ok() || !spec->source.remote()) return;
    spec->name = base::model_of(stored.name);
    spec->source.path.clear();
    if (stored.memory_estimated) {
      spec->resources.device_memory_bytes.reset();
      spec->resources.loading_memory_bytes.reset();
    }
    const base::Millis takeover(stored.takeover_timeout_ms);
    add(*std::move(spec), stored.created_unix_ms, stored.updated_unix_ms, takeover > base::Millis(0) ? takeover : control::RolloutSettings{}.timeout);
  };
  for (const auto& stored : pending) take(stored);
  // A model in the store that is not in the books: its files are gone, or this data directory was moved.
  for (const auto& stored : models)
    if (in_.controller.find(stored.name) == nullptr && !pending_.contains(base::model_of(stored.name))) take(stored);
  if (!pending_.empty()) spdlog::info("{} models wait for their files; their pulls go on", pending_.size());
  return {};
}

bool Pulls::must_wait(spec::ModelSpec& spec) const {
  if (!spec.source.remote()) return false;
  spec.source.path.clear();
  const auto set = in_.blobs.find(spec.source, spec.engine != spec::EngineKind::llama_cpp);
  if (!set) return true;
  spec.source.path = in_.blobs.path_of(*set);
  return false;
}

void Pulls::add(spec::ModelSpec spec, std::int64_t created_unix_ms, std::int64_t updated_unix_ms, base::Duration takeover_timeout) {
  const ModelName name = spec.name;
  forget(name);
  PendingModel& model = pending_[name];
  model.spec = std::move(spec);
  model.takeover_timeout = takeover_timeout;
  model.created_unix_ms = created_unix_ms;
  model.updated_unix_ms = updated_unix_ms;
  model.generation = next_generation_++;
  begin(model, false);
}

void Pulls::begin(PendingModel& model, bool refresh) {
  model.retry_at = base::never();
  model.path.clear();
  const auto id = puller_->start(order_of(model.spec, refresh));
  if (!id.ok()) {
    model.pull = 0;
    return fail(model, {ErrorKind::unavailable, id.error().message});
  }
  model.pull = *id;
  model.failure.reset();
  spdlog::info("{}: pulling {}", model.spec.name.str(), spec::to_string(model.spec.source));
}

base::Result<std::uint64_t> Pulls::pull_model(const ModelName& name) {
  if (const auto found = pending_.find(name); found != pending_.end()) {
    if (found->second.failure) begin(found->second, false);
    if (found->second.pull == 0) return *found->second.failure;
    return found->second.pull;
  }
  const ModelEntry* const entry = serving(name);
  if (entry == nullptr) return Error{ErrorKind::not_found, "there is no model \"" + name.str() + "\"; `thaw ls` lists them"};
  if (!entry->spec.source.remote())
    return Error{ErrorKind::invalid, name.str() + " is at " + entry->spec.source.path + " on the server's machine: there is nothing to pull"};
  spec::ModelSpec spec = entry->spec;
  spec.name = name;
  spec.source.path.clear();
  if (entry->memory_estimated) {
    spec.resources.device_memory_bytes.reset();
    spec.resources.loading_memory_bytes.reset();
  }
  PendingModel& model = pending_[name];
  model.spec = std::move(spec);
  model.created_unix_ms = entry->created_unix_ms;
  model.updated_unix_ms = entry->updated_unix_ms;
  model.generation = next_generation_++;
  begin(model, true);
  if (model.pull == 0) return *model.failure;
  return model.pull;
}

bool Pulls::forget(const ModelName& name) {
  const auto found = pending_.find(name);
  if (found == pending_.end()) return false;
  const std::uint64_t pull = found->second.pull;
  pending_.erase(found);
  if (pull != 0 && waiting_for(pull).empty()) puller_->cancel(pull);
  return true;
}

const PendingModel* Pulls::find(const ModelName& name) const {
  const auto found = pending_.find(name);
  return found == pending_.end() ? nullptr : &found->second;
}

const PendingModel* Pulls::meant(const ModelName& name) const {
  if (const PendingModel* const model = find(name)) return model;
  const std::string tenant(base::tenant_part(name));
  for (const auto& [own, model] : pending_)
    for (const std::string& alias : model.spec.aliases)
      if (base::qualified(tenant, alias) == name && base::tenant_part(own) == tenant) return &model;
  return nullptr;
}

PendingModel* Pulls::find(const ModelName& name, std::uint64_t generation) {
  const auto found = pending_.find(name);
  return found == pending_.end() || found->second.generation != generation ? nullptr : &found->second;
}

std::vector<ModelName> Pulls::waiting_for(std::uint64_t pull) const {
  std::vector<ModelName> names;
  for (const auto& [name, model] : pending_)
    if (model.pull == pull && !model.failure) names.push_back(name);
  return names;
}

std::vector<std::string> Pulls::used_paths() const {
  std::vector<std::string> paths;
  for (const auto& [name, model] : in_.controller.models())
    if (model->spec.source.remote()) paths.push_back(model->spec.source.path);
  for (const auto& [name, model] : pending_)
    if (!model.path.empty()) paths.push_back(model.path);
  return paths;
}

void Pulls::ended(const PullView& view) {
  const bool good = view.state == node::pull::PullState::done;
  in_.metrics.pull_ended(good ? "ok" : to_string(view.error.kind));
  for (const ModelName& name : waiting_for(view.id)) {
    if (good)
      look_into(name, view);
    else
      fail(pending_.at(name), view.error);
  }
}

void Pulls::fail(PendingModel& model, const Error& error) {
  model.failure = error;
  ++model.failures;
  if (!passes(error.kind)) {
    spdlog::error("{}: cannot be served: {}", model.spec.name.str(), error.message);
    return;
  }
  base::Duration wait = kFirstRetry;
  for (std::uint32_t i = 1; i < model.failures && wait < kLongestRetry; ++i) wait *= 2;
  wait = std::min(wait, kLongestRetry);
  model.retry_at = in_.loop.now() + wait;
  spdlog::warn("{}: not pulled: {}; it is tried again in {}", model.spec.name.str(), error.message, base::format_duration(wait));
  if (model.retry_at < retry_timer_.deadline()) retry_timer_.arm(model.retry_at);
}

void Pulls::retry_due() {
  base::TimePoint next = base::never();
  for (auto& [name, model] : pending_) {
    if (model.retry_at <= in_.loop.now()) begin(model, false);
    next = std::min(next, model.retry_at);
  }
  if (next != base::never()) retry_timer_.arm(next);
}

/// The worker may outlive this object, though not the loop; what is posted runs while it lives.
void Pulls::look_into(const ModelName& name, const PullView& view) {
  PendingModel& model = pending_.at(name);
  model.path = view.path;
  spec::ModelSpec spec = model.spec;
  spec.source.path = view.path;
  spec.adapters.clear();  // those of before; they come back with the plan
  std::optional<spec::ModelSpec> base;
  if (spec.is_adapter()) {
    const ModelEntry* const entry = serving(base_of(spec));
    if (entry == nullptr || entry->spec.is_adapter())
      return fail(model, {ErrorKind::invalid, fmt::format("its base, model \"{}\", is not there (any more)", spec.base_model)});
    base = entry->spec;
  }
  const bool taken =
      in_.files_worker.submit([this, name, generation = model.generation, spec = std::move(spec), base = std::move(base), inspect = in_.inspect,
                               &loop = in_.loop] {
        auto facts = inspect(spec);
        if (base && facts.ok())
          if (const auto fits = node::adapter_fits(*base, {base::public_name(name), spec.source.path, 0}); !fits.ok()) facts = fits.error();
        loop.post([this, name, generation, spec, facts = std::move(facts)] { looked_into(name, generation, spec, facts); });
      });
  if (!taken) fail(model, {ErrorKind::unavailable, "too much waits to be read"});
}

void Pulls::looked_into(const ModelName& name, std::uint64_t generation, spec::ModelSpec spec, const base::Result<node::ModelFacts>& facts) {
  PendingModel* const model = find(name, generation);
  if (model == nullptr) return;
  if (!facts.ok()) return fail(*model, facts.error());
  const bool memory_estimated = !spec.is_adapter() && !spec.resources.device_memory_bytes.has_value();
  if (memory_estimated) spec.resources.device_memory_bytes = facts->estimated_device_bytes;
  if (!spec.resources.loading_memory_bytes) spec.resources.loading_memory_bytes = facts->estimated_loading_bytes;
  if (!spec.is_adapter())
    if (const base::Status fits = in_.controller.can_ever_run(spec); !fits.ok()) return fail(*model, fits.error());
  ModelEntry entry{std::move(spec), facts->weights_bytes, 0, model->created_unix_ms, model->updated_unix_ms, memory_estimated, nullptr};
  if (in_.rollouts != nullptr) return roll_out(name, generation, std::move(entry), facts->files);
  store::StoredModel stored{name, spec::to_json(entry.spec), entry.created_unix_ms, entry.updated_unix_ms, memory_estimated};
  // Durable before it counts.
  const bool taken = in_.store_worker.submit(
      [this, name, generation, entry = std::move(entry), stored = std::move(stored), files = facts->files, &store = in_.store, &loop = in_.loop] {
        const auto put = [&]() -> base::Result<std::uint32_t> {
          THAW_RETURN_IF_ERROR(store.put_model(stored));
          return store.model_ref(name);
        };
        auto usage_ref = put();
        loop.post(
            [this, name, generation, entry, files, usage_ref = std::move(usage_ref)] { put_in_service(name, generation, entry, files, usage_ref); });
      });
  if (!taken) fail(*model, {ErrorKind::unavailable, "the disk cannot keep up"});
}

const ModelEntry* Pulls::serving(const ModelName& name) const {
  return in_.controller.find(in_.rollouts == nullptr ? name : in_.rollouts->serving(name));
}

/// The same by way of revisions: an older spec serves until this one is ready.
void Pulls::roll_out(const ModelName& name, std::uint64_t generation, ModelEntry entry, const std::vector<wire::FileStamp>& files) {
  const base::Duration timeout = find(name)->takeover_timeout;
  auto plan = std::make_shared<Rollouts::Plan>(in_.rollouts->plan(std::move(entry), files, {.timeout = timeout}));
  plan->why = "its files were pulled";
  const bool taken = in_.store_worker.submit([this, name, generation, plan, &store = in_.store, &loop = in_.loop] {
    const auto put = [&]() -> base::Result<std::uint32_t> {
      THAW_RETURN_IF_ERROR(store.change_rollout(plan->change));
      return store.model_ref(name);
    };
    loop.post([this, name, generation, plan, usage_ref = put()] {
      PendingModel* const model = find(name, generation);
      if (model == nullptr) return;
      if (!usage_ref.ok()) return fail(*model, {ErrorKind::unavailable, "cannot store the model: " + usage_ref.error().message});
      plan->entry.usage_ref = *usage_ref;
      spdlog::info("{}: deployed ({}), revision {}", name.str(), spec::to_string(plan->entry.spec.source), plan->number);
      pending_.erase(name);
      in_.rollouts->carry_out(std::move(*plan));
    });
  });
  if (!taken) fail(*find(name, generation), {ErrorKind::unavailable, "the disk cannot keep up"});
}

void Pulls::put_in_service(const ModelName& name, std::uint64_t generation, ModelEntry entry, const std::vector<wire::FileStamp>& files,
                           const base::Result<std::uint32_t>& usage_ref) {
  PendingModel* const model = find(name, generation);
  if (model == nullptr) return;
  if (!usage_ref.ok()) return fail(*model, {ErrorKind::unavailable, "cannot store the model: " + usage_ref.error().message});
  entry.usage_ref = *usage_ref;
  spdlog::info("{}: deployed ({})", name.str(), spec::to_string(entry.spec.source));
  pending_.erase(name);
  in_.controller.deploy(std::move(entry));
  in_.model_files.deployed(name, files);
}

}  // namespace thaw::controller
