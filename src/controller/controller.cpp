#include "controller/controller.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "base/units.h"

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
    cache->keep([&](auto& book, auto /*now*/, auto& out) { book.model_deployed(model->spec, out); });
  scheduler_.node_joined(hello, loop_.now(), actions_);
  carry_out();
}

void Controller::node_event(const wire::NodeEvent& event) {
  const base::TimePoint now = loop_.now();
  if (const auto* ready = std::get_if<wire::InstanceReady>(&event)) {
    if (const auto found = replicas_.find(ready->instance); found != replicas_.end()) {
      found->second->became_ready(*ready, now);
      note_cold_start(*found->second, *ready);
      if (files_ != nullptr) files_->model_loaded(found->second->model());
    }
    scheduler_.instance_ready(*ready, now, actions_);
    for (auto& [node, cache] : caches_)
      cache->keep([&](auto& book, auto /*now*/, auto& out) { book.instance_ready(ready->instance, out); });
  } else if (const auto* weights = std::get_if<wire::InstanceWeights>(&event)) {
    if (const auto found = replicas_.find(weights->instance); found != replicas_.end()) note_weights(*found->second, weights->phase);
  } else if (const auto* down = std::get_if<wire::InstanceDown>(&event)) {
    if (const auto found = replicas_.find(down->instance); found != replicas_.end()) {
      spdlog::warn("{}: instance {} is down: {}: {}", found->second->model().str(), down->instance.value(), to_string(down->reason),
                   down->detail);
      metrics_.instance_down(found->second->model().str(), to_string(down->reason));
      found->second->close();
    }
    scheduler_.instance_down(*down, now, actions_);
  } else if (const auto* gone = std::get_if<wire::InstanceGone>(&event)) {
    if (const auto found = replicas_.find(gone->instance); found != replicas_.end()) {
      spdlog::info("{}: instance {} is gone", found->second->model().str(), gone->instance.value());
      found->second->close();
      replicas_.erase(found);
    }
    scheduler_.instance_gone(*gone, now, actions_);
    reservations_changed_ = true;
  } else if (const auto* state = std::get_if<wire::WeightsState>(&event)) {
    if (const auto found = caches_.find(state->node); found != caches_.end()) found->second->on(*state);
  } else if (const auto* evicted = std::get_if<wire::WeightsEvicted>(&event)) {
    if (const auto found = caches_.find(evicted->node); found != caches_.end()) found->second->on(*evicted);
  } else {
    note_files(event, now);
  }
  carry_out();
  // After whatever has started in its place, and after the books of the device: weights are never in both books.
  if (const auto* gone = std::get_if<wire::InstanceGone>(&event))
    for (auto& [node, cache] : caches_)
      cache->keep([&](auto& book, auto at, auto& out) { book.instance_gone(gone->instance, at, out); });
}

void Controller::note_files(const wire::NodeEvent& event, base::TimePoint now) {
  if (const auto* hashed = std::get_if<wire::FileHashed>(&event)) {
    if (files_ != nullptr) files_->file_hashed(*hashed);
  } else if (const auto* seen = std::get_if<wire::FilesSeen>(&event)) {
    const auto found = replicas_.find(seen->instance);
    if (found != replicas_.end() && files_ != nullptr) files_->files_seen(found->second->model(), seen->files);
  } else if (const auto* changed = std::get_if<wire::FilesChanged>(&event)) {
    const auto found = replicas_.find(changed->instance);
    if (found == replicas_.end()) return;
    // A file that is gone leaves its replicas whole: they have it mapped. Its next start will say what is wrong.
    if (!changed->gone) scheduler_.instance_outdated(changed->instance, changed->file.path + " changed: " + changed->detail, now, actions_);
    if (files_ != nullptr) files_->files_changed(found->second->model(), *changed);
  }
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

void Controller::note_cold_start(const Replica& replica, const wire::InstanceReady& event) {
  const base::Duration took = replica.ready_at() - replica.started();
  metrics_.cold_start(replica.model().str(), took, event.phases);
  std::string phases;
  for (const auto& phase : event.phases) phases += fmt::format(" {}={}", phase.name, base::format_duration(phase.duration));
  spdlog::info("{}: instance {} ready after {}:{}", replica.model().str(), event.instance.value(), base::format_duration(took), phases);
}

void Controller::deploy(ModelEntry entry) {
  const ModelName name = entry.spec.name;
  entry.probe = metrics_.model(name.str());
  auto shared = std::make_shared<ModelEntry>(std::move(entry));
  by_name_.erase(name.str());
  models_[name] = shared;
  by_name_.emplace(shared->spec.name.str(), shared);
  scheduler_.model_deployed(shared->spec, loop_.now(), actions_);
  for (auto& [node, cache] : caches_)
    cache->keep([&](auto& book, auto /*now*/, auto& out) { book.model_deployed(shared->spec, out); });
  carry_out();
}

bool Controller::remove(const ModelName& name) {
  const auto found = models_.find(name);
  if (found == models_.end()) return false;
  by_name_.erase(name.str());
  models_.erase(found);
  scheduler_.model_removed(name, loop_.now(), actions_);
  for (auto& [node, cache] : caches_)
    cache->keep([&](auto& book, auto now, auto& out) { book.model_removed(name, now, out); });
  carry_out();
  return true;
}

void Controller::stop(const ModelName& name, bool kill) {
  scheduler_.model_stopped(name, kill, loop_.now(), actions_);
  carry_out();
}

const ModelEntry* Controller::find(const ModelName& name) const {
  const auto found = models_.find(name);
  return found == models_.end() ? nullptr : found->second.get();
}

std::shared_ptr<ModelEntry> Controller::share(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

void Controller::arrived(Ticket& ticket, const ModelName& model, const base::TenantName& tenant) {
  for (auto& [node, cache] : caches_) cache->requested(model);
  arriving_ = &ticket;
  scheduler_.request_arrived({ticket.id(), model, tenant}, loop_.now(), actions_);
  carry_out();
  arriving_ = nullptr;
  if (!ticket.resolved()) waiting_.emplace(ticket.id(), &ticket);
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

void Controller::perform(const control::Start& action) {
  const wire::StartInstance& command = action.command;
  spdlog::info("{}: starting instance {} on {}/{} ({})", command.model.name.str(), command.instance.value(), action.node.str(),
               command.device.str(), base::format_bytes(command.model.resources.device_memory_bytes.value_or(0)));
  replicas_.emplace(command.instance, std::make_shared<Replica>(command.instance, command.model.name, loop_.now()));
  send_(action.node, command);
  if (const auto found = caches_.find(action.node); found != caches_.end())
    found->second->keep(
        [&](auto& book, auto now, auto& out) { book.instance_starting(command.instance, command.model, now, out); });
  reservations_changed_ = true;
}

void Controller::perform(const control::Stop& action) {
  if (const auto found = replicas_.find(action.instance); found != replicas_.end()) {
    spdlog::info("{}: stopping instance {}: {}", found->second->model().str(), action.instance.value(), action.reason);
    metrics_.instance_stopped(found->second->model().str());
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
