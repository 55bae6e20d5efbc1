#include "controller/controller.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "base/revision.h"
#include "base/tenancy.h"
#include "base/units.h"
#include "controller/adapters.h"

namespace thaw::controller {

using base::InstanceId;
using base::ModelName;

Controller::Controller(net::Loop& loop, observe::Metrics& metrics, control::Policy policy, std::uint64_t first_instance, SendToNode send)
    : loop_(loop),
      metrics_(metrics),
      stop_grace_(policy.stop_grace),
      scheduler_(policy, first_instance),
      send_(std::move(send)),
      timer_(loop, [this] {
        scheduler_.tick(loop_.now(), actions_);
        carry_out();
      }) {}

Controller::~Controller() = default;

void Controller::node_joined(const wire::NodeHello& hello) {
  auto& cache = caches_[hello.node];
  cache = std::make_unique<CacheKeeper>(
      loop_, metrics_, hello.host_cache,
      [this, node = hello.node](wire::NodeCommand order) { send_(node, std::move(order)); });
  for (const auto& [name, model] : models_)
    if (!model->spec.is_adapter()) cache->keep([&](auto& book, auto /*now*/, auto& out) { book.model_deployed(model->spec, out); });
  scheduler_.node_joined(hello, loop_.now(), actions_);
  carry_out();
}

void Controller::note_weights(Replica& replica, const wire::Phase& phase) {
  replica.add_phase(phase);
  metrics_.cold_start_phase(phase);
  const wire::PhaseBytes bytes = phase.bytes.value_or(wire::PhaseBytes{});
  if (bytes.read == 0) return;
  spdlog::info("{}: instance {}: {} of weights read in {} ({}/s), {} were in memory", replica.model().str(), replica.instance().value(),
               base::format_bytes(bytes.read), base::format_duration(phase.duration),
               base::format_bytes(static_cast<std::uint64_t>(phase.bytes_per_s())), base::format_bytes(bytes.resident));
}

void Controller::deploy(ModelEntry entry, bool told) {
  const ModelName name = entry.spec.name;
  entry.probe = metrics_.model(name.str());
  auto shared = std::make_shared<ModelEntry>(std::move(entry));
  const auto before = models_.find(name);
  const bool again = before != models_.end();
  if (again) unlist(*before->second);
  for (const std::string& alias : shared->spec.aliases) shared->alias_names.push_back(base::qualified(base::tenant_part(name), alias).str());
  models_[name] = shared;
  if (shared->spec.is_adapter()) adapters_[base_of(shared->spec)].insert(name);
  by_name_.erase(name.str());  // a name goes before another's alias
  by_name_.emplace(shared->spec.name.str(), shared);
  for (const std::string& alias : shared->alias_names) by_name_.try_emplace(alias, shared);
  if (told) note(name, {.kind = ModelEvent::Kind::deployed, .reason = again ? "deployed again" : "deployed"});
  if (shared->spec.is_adapter()) return;  // its base's replicas are all that there is of it
  scheduler_.model_deployed(shared->spec, loop_.now(), actions_, base::tenant_of(name));
  for (auto& [node, cache] : caches_)
    cache->keep([&](auto& book, auto /*now*/, auto& out) { book.model_deployed(shared->spec, out); });
  carry_out();
}

/// Its names are looked up no more: they are of the entry, and end with it.
void Controller::unlist(const ModelEntry& entry) {
  const auto drop = [&](const std::string& name) {
    const auto found = by_name_.find(name);
    if (found != by_name_.end() && found->second.get() == &entry) by_name_.erase(found);
  };
  drop(entry.spec.name.str());
  for (const std::string& alias : entry.alias_names) drop(alias);
  if (!entry.spec.is_adapter()) return;
  const auto of_base = adapters_.find(base_of(entry.spec));
  if (of_base != adapters_.end() && of_base->second.erase(entry.spec.name) > 0 && of_base->second.empty()) adapters_.erase(of_base);
}

const std::set<ModelName>& Controller::adapters(const ModelName& base) const {
  static const std::set<ModelName> kNone;
  const auto found = adapters_.find(base);
  return found == adapters_.end() ? kNone : found->second;
}

/// In any revision.
bool Controller::is_deployed(const ModelName& model) const {
  if (models_.contains(model)) return true;
  const auto first = models_.lower_bound(ModelName(model.str() + base::kRevisionMark));
  return first != models_.end() && base::model_of(first->first) == model;
}

bool Controller::remove(const ModelName& name) {
  const auto found = models_.find(name);
  if (found == models_.end()) return false;
  unlist(*found->second);
  const bool adapter = found->second->spec.is_adapter();
  models_.erase(found);
  scheduler_.model_removed(name, loop_.now(), actions_);
  for (auto& [node, cache] : caches_)
    cache->keep([&](auto& book, auto now, auto& out) { book.model_removed(name, now, out); });
  // Compile caches are the model's, whatever its revision.
  const ModelName model = base::model_of(name);
  const bool last = !is_deployed(model);
  if (last) events_.forget(model);
  if (last && adapter) unload_adapter(model);
  // Aliases go on standing for what is left of it.
  for (const auto& [other, entry] : models_)
    if (base::model_of(other) == model)
      for (const std::string& alias : entry->alias_names) by_name_.try_emplace(alias, entry);
  if (last)
    for (const auto& [node, cache] : caches_) send_(node, wire::ForgetModel{base::tenant_of(name), model});
  carry_out();
  return true;
}

void Controller::stop(const ModelName& name, bool kill) {
  scheduler_.model_stopped(name, kill, loop_.now(), actions_);
  carry_out();
}

base::Result<std::uint32_t> Controller::freeze(const ModelName& name) {
  auto frozen = scheduler_.model_frozen(name, loop_.now(), actions_);
  carry_out();
  return frozen;
}

base::Result<bool> Controller::wake(const ModelName& name) {
  auto woken = scheduler_.model_woken(name, loop_.now(), actions_);
  carry_out();
  return woken;
}

base::Result<base::ImageId> Controller::snapshot(const ModelName& name) {
  auto begun = scheduler_.model_snapshot(name, loop_.now(), actions_);
  carry_out();
  return begun;
}

void Controller::file_differs(const ModelName& name, const std::string& difference) {
  scheduler_.images_outdated(name, difference, loop_.now(), actions_);
  carry_out();
}

base::Status Controller::drop_image(const base::ImageId& image) {
  auto dropped = scheduler_.image_dropped(image, loop_.now(), actions_);
  carry_out();
  return dropped;
}

base::Result<std::uint32_t> Controller::set_duty(const base::NodeName& node, const base::DeviceId& device, control::Duty duty) {
  auto leaving = scheduler_.set_duty(node, device, duty, loop_.now(), actions_);
  carry_out();
  return leaving;
}

base::Status Controller::set_tenant(const control::TenantPolicy& policy) {
  auto set = scheduler_.set_tenant(policy, loop_.now(), actions_);
  carry_out();
  return set;
}

void Controller::forget_tenant(const base::TenantName& tenant) {
  scheduler_.forget_tenant(tenant, loop_.now(), actions_);
  carry_out();
}

std::vector<control::TenantView> Controller::tenants() const { return scheduler_.tenants(loop_.now()); }

const ModelEntry* Controller::find(const ModelName& name) const {
  const auto found = models_.find(name);
  return found == models_.end() ? nullptr : found->second.get();
}

std::shared_ptr<ModelEntry> Controller::share(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

void Controller::arrived(Ticket& ticket, const ModelName& model, const base::TenantName& tenant, std::uint64_t affinity,
                         std::optional<spec::Priority> priority, const ModelName& adapter) {
  for (auto& [node, cache] : caches_) cache->requested(model);
  arriving_ = &ticket;
  scheduler_.request_arrived({ticket.id(), model, tenant, affinity, priority, adapter}, loop_.now(), actions_);
  carry_out();
  arriving_ = nullptr;
  if (!ticket.resolved()) waiting_.emplace(ticket.id(), &ticket);
}

std::shared_ptr<AdapterLoad> Controller::load_adapter(Replica& replica, const ModelName& adapter) {
  if (auto known = replica.adapter(adapter)) return known;
  auto load = replica.loads(adapter);
  spdlog::info("{}: loading adapter {} into instance {}", replica.model().str(), adapter.str(), replica.instance().value());
  send_(replica.node(), wire::LoadAdapter{replica.instance(), adapter, kAdapterDeadline});
  return load;
}

/// By every engine that has it.
void Controller::unload_adapter(const ModelName& adapter) {
  for (const auto& [id, replica] : replicas_)
    if (replica->forget_adapter(adapter)) send_(replica->node(), wire::UnloadAdapter{id, adapter});
}

void Controller::answering(Ticket& ticket) {
  ticket.answering_ = true;
  scheduler_.request_answering(ticket.id(), loop_.now());
  arm_timer();  // a replica that was kept for this request alone may be open to others now
}

void Controller::failed(Ticket& ticket, control::RequestFailure failure) {
  ticket.outcome_ = std::monostate{};
  arriving_ = &ticket;
  scheduler_.request_failed(ticket.id(), failure, loop_.now(), actions_);
  carry_out();
  arriving_ = nullptr;
  if (!ticket.resolved() && !ticket.answering_) waiting_.emplace(ticket.id(), &ticket);
}

void Controller::ended(Ticket& ticket) {
  waiting_.erase(ticket.id());
  ticket.device_seconds_ = scheduler_.device_seconds(ticket.id(), loop_.now());
  scheduler_.request_ended(ticket.id(), loop_.now(), actions_);
  carry_out();
}

void Controller::drain() {
  scheduler_.drain(loop_.now(), actions_);
  carry_out();
}

void Controller::carry_out() {
  // Performing never calls the scheduler back: resolved tickets resume later in this turn of the loop.
  for (const control::Action& action : actions_) std::visit([this](const auto& a) { perform(a); }, action);
  actions_.clear();
  if (reservations_changed_) update_reserved();
  arm_timer();
}

/// Of host memory, which instances and weights share.
void Controller::update_reserved() {
  reservations_changed_ = false;
  std::map<base::NodeName, std::uint64_t> reserved_bytes;
  for (const control::DeviceView& device : scheduler_.devices())
    if (device.info.kind == spec::DeviceKind::cpu) reserved_bytes[device.node] += device.reserved_bytes;
  for (const control::NodeView& node : scheduler_.nodes()) reserved_bytes[node.node] += node.host_reserved_bytes;
  for (auto& [node, cache] : caches_)
    cache->keep([&](auto& book, auto now, auto& out) { book.reserved(reserved_bytes[node], now, out); });
}

void Controller::arm_timer() {
  if (const base::TimePoint next = scheduler_.next_tick(); next == base::never()) {
    timer_.disarm();
  } else {
    timer_.arm(next);
  }
}

void Controller::note(const ModelName& model, ModelEvent event) {
  const ModelName all = base::model_of(model);
  if (!is_deployed(all)) return;  // its last replicas end when it is gone already
  event.unix_ms = net::unix_ms();
  events_.note(all, std::move(event));
}

void Controller::note(const Replica& of, ModelEvent::Kind kind, std::string reason, control::Cause cause, std::optional<base::Duration> took) {
  note(of.model(), {.kind = kind, .replica = of.instance(), .node = of.node(), .device = of.devices(), .reason = std::move(reason), .cause = cause, .took = took});
}

namespace {

std::string joined(const std::vector<base::DeviceId>& all) {
  std::string devices;
  for (const base::DeviceId& device : all) devices += (devices.empty() ? "" : "+") + device.str();
  return devices;
}

}  // namespace

void Controller::perform(const control::Start& action) {
  const wire::StartInstance& command = action.command;
  const bool restores = !command.image.empty();
  const std::string devices = joined(command.all_devices());
  const ModelEntry* const entry = find(command.model.name);
  const bool takes_over = entry != nullptr && entry->takes_over && action.cause.rule == control::Rule::min_replicas;
  const std::string why = takes_over ? "to take over from the revision that serves" : action.why;
  spdlog::info("{}: {} instance {} on {}/{} ({}): {}", command.model.name.str(), restores ? "restoring" : "starting", command.instance.value(),
               action.node.str(), devices, base::format_bytes(command.model.resources.device_memory_bytes.value_or(0)), why);
  auto begun = std::make_shared<Replica>(command.instance, command.model.name, loop_.now());
  begun->rises(restores ? wire::Way::restore : wire::Way::start, why, loop_.now());
  begun->stands_on(action.node, devices);
  note(*begun, restores ? ModelEvent::Kind::restoring : ModelEvent::Kind::starting, why, action.cause);
  replicas_.emplace(command.instance, std::move(begun));
  send_(action.node, command);
  uses_weights(action.node, command.instance, command.model);
}

/// Also a restore reads them, and the replica that an image is made of.
void Controller::uses_weights(const base::NodeName& node, InstanceId instance, const spec::ModelSpec& model) {
  if (const auto found = caches_.find(node); found != caches_.end())
    found->second->keep([&](auto& book, auto now, auto& out) { book.instance_starting(instance, model, now, out); });
  reservations_changed_ = true;
}

void Controller::perform(const control::Freeze& action) {
  if (Replica* const frozen = replica(action.command.instance)) {
    spdlog::info("{}: freezing instance {}: {}", frozen->model().str(), frozen->instance().value(), action.why);
    note(*frozen, ModelEvent::Kind::freezing, action.why, action.cause);
    frozen->freezes(loop_.now());
  }
  send_(action.node, action.command);
  reservations_changed_ = true;
}

void Controller::perform(const control::Wake& action) {
  if (Replica* const woken = replica(action.command.instance)) {
    spdlog::info("{}: waking instance {}: {}", woken->model().str(), woken->instance().value(), action.why);
    note(*woken, ModelEvent::Kind::waking, action.why, action.cause);
    woken->rises(wire::Way::wake, action.why, loop_.now());
  }
  send_(action.node, action.command);
  reservations_changed_ = true;
}

void Controller::perform(const control::Snapshot& action) {
  const wire::TakeSnapshot& command = action.command;
  spdlog::info("{}: making image {} by instance {} on {}/{}: {}", command.model.name.str(), command.image.str(), command.instance.value(),
               action.node.str(), command.device.str(), action.why);
  auto begun = std::make_shared<Replica>(command.instance, command.model.name, loop_.now(), Replica::Stage::imaging);
  begun->stands_on(action.node, joined(command.devices.empty() ? std::vector{command.device} : command.devices));
  note(*begun, ModelEvent::Kind::imaging, action.why, action.cause);
  replicas_.emplace(command.instance, std::move(begun));
  send_(action.node, command);
  uses_weights(action.node, command.instance, command.model);
}

void Controller::perform(const control::Drop& action) {
  spdlog::info("dropping image {}: {}", action.command.image.str(), action.why);
  send_(action.node, action.command);
}

void Controller::perform(const control::Stop& action) {
  if (const auto found = replicas_.find(action.instance); found != replicas_.end()) {
    spdlog::info("{}: stopping instance {}: {}", found->second->model().str(), action.instance.value(), action.reason);
    metrics_.instance_stopped(found->second->model().str());
    note_transition(*found->second, "stopped");
    note(*found->second, ModelEvent::Kind::stopping, action.reason, action.cause);
    found->second->close();
  }
  send_(action.node, wire::StopInstance{action.instance, stop_grace_});
}

void Controller::perform(const control::Dispatch& action) {
  Ticket* ticket = arriving_ != nullptr && arriving_->id() == action.request ? arriving_ : nullptr;
  if (ticket == nullptr) {
    const auto found = waiting_.find(action.request);
    if (found == waiting_.end()) return;  // its client has just left; ended() told the scheduler already
    ticket = found->second;
    waiting_.erase(found);
  }
  ticket->resolve(Grant{replicas_.at(action.instance), action.cold, action.queued});
}

void Controller::perform(const control::Refuse& action) {
  metrics_.refused(to_string(action.why));
  Ticket* ticket = arriving_ != nullptr && arriving_->id() == action.request ? arriving_ : nullptr;
  if (ticket == nullptr) {
    const auto found = waiting_.find(action.request);
    if (found == waiting_.end()) return;
    ticket = found->second;
    waiting_.erase(found);
  }
  ticket->resolve(action);
}

}  // namespace thaw::controller
