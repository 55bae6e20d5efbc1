// What nodes report: into the log, the metrics and the scheduler, in this order.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/revision.h"
#include "base/units.h"
#include "controller/controller.h"

namespace thaw::controller {

namespace {

using observe::Transition;

std::string listed(const std::vector<wire::Phase>& phases) {
  std::string text;
  for (const auto& phase : phases) text += fmt::format(" {}={}", phase.name, base::format_duration(phase.duration));
  return text;
}

Transition transition_of(wire::Way way) {
  switch (way) {
    case wire::Way::wake: return Transition::wake;
    case wire::Way::restore: return Transition::restore;
    case wire::Way::start: break;
  }
  return Transition::start;
}

}  // namespace

/// What it was in the middle of, if anything, ended so.
void Controller::note_transition(const Replica& of, const char* result) {
  const base::Duration took = loop_.now() - of.ordered_at();
  switch (of.stage()) {
    case Replica::Stage::rising: return metrics_.transition(transition_of(of.way()), result, took);
    case Replica::Stage::freezing: return metrics_.transition(Transition::freeze, result, took);
    case Replica::Stage::imaging: return metrics_.transition(Transition::snapshot, result, took);
    case Replica::Stage::ready:
    case Replica::Stage::standby:
    case Replica::Stage::ended: break;
  }
}

void Controller::node_event(const wire::NodeEvent& event) {
  std::visit([this](const auto& e) { on(e); }, event);
  carry_out();
  // After whatever has started in its place, and after the books of the device: weights are never in both books.
  if (const auto* gone = std::get_if<wire::InstanceGone>(&event))
    for (auto& [node, cache] : caches_)
      cache->keep([&](auto& book, auto at, auto& out) { book.instance_gone(gone->instance, at, out); });
  if (const auto* rests = std::get_if<wire::InstanceStandby>(&event))
    for (auto& [node, cache] : caches_)
      cache->keep([&](auto& book, auto at, auto& out) { book.instance_resting(rests->instance, at, out); });
}

Replica* Controller::replica(base::InstanceId id) const {
  const auto found = replicas_.find(id);
  return found == replicas_.end() ? nullptr : found->second.get();
}

void Controller::on(const wire::InstanceReady& event) {
  const base::TimePoint now = loop_.now();
  if (Replica* const risen = replica(event.instance); risen != nullptr && risen->stage() == Replica::Stage::rising) {
    const wire::Way asked = risen->way();
    risen->became_ready(event, now);
    const std::string& model = risen->model().str();
    const base::Duration took = now - risen->ordered_at();
    const bool fell_back = asked != risen->way();
    const std::string why = fell_back ? "; it could not be restored: " + event.fell_back : "";
    note(*risen, ModelEvent::Kind::ready, std::string("by ") + to_string(risen->way()) + why, {}, took);
    metrics_.transition(transition_of(asked), fell_back ? "fell_back" : "ok", took);
    if (risen->way() != wire::Way::wake) metrics_.cold_start(model, took, event.phases);
    spdlog::info("{}: instance {} ready after {} by {}:{}", model, event.instance.value(), base::format_duration(took), to_string(risen->way()),
                 listed(event.phases));
    if (files_ != nullptr && risen->way() != wire::Way::wake) files_->model_loaded(risen->model());
    if (fell_back) spdlog::warn("{}: instance {} was not restored but started: {}", model, event.instance.value(), event.fell_back);
  }
  scheduler_.instance_ready(event, now, actions_);
  reservations_changed_ = true;
  for (auto& [node, cache] : caches_)
    cache->keep([&](auto& book, auto at, auto& out) { book.instance_ready(event.instance, event.copied_weights, at, out); });
}

void Controller::on(const wire::InstanceDown& event) {
  if (Replica* const lost = replica(event.instance)) {
    const std::string& model = lost->model().str();
    spdlog::warn("{}: instance {} is down: {}: {}", model, event.instance.value(), to_string(event.reason), event.detail);
    metrics_.instance_down(model, to_string(event.reason));
    note_transition(*lost, to_string(event.reason));
    if (event.reason != wire::DownReason::stopped)
      note(*lost, ModelEvent::Kind::failed, std::string(to_string(event.reason)) + ": " + event.detail, {control::Rule::failure});
    lost->cut();
  }
  scheduler_.instance_down(event, loop_.now(), actions_);
}

void Controller::on(const wire::InstanceGone& event) {
  if (const auto found = replicas_.find(event.instance); found != replicas_.end()) {
    spdlog::info("{}: instance {} is gone", found->second->model().str(), event.instance.value());
    note(*found->second, ModelEvent::Kind::gone, "nothing of it is left");
    found->second->cut();
    replicas_.erase(found);
  }
  scheduler_.instance_gone(event, loop_.now(), actions_);
  reservations_changed_ = true;
}

void Controller::on(const wire::InstanceStandby& event) {
  if (Replica* const frozen = replica(event.instance); frozen != nullptr && frozen->stage() == Replica::Stage::freezing) {
    const base::Duration took = loop_.now() - frozen->ordered_at();
    note_transition(*frozen, "ok");
    frozen->became_standby();
    note(*frozen, ModelEvent::Kind::standby,
         fmt::format("by {}, holding {} of its device and {} of the host", to_string(event.driver), base::format_bytes(event.held_device_bytes),
                     base::format_bytes(event.held_host_bytes)),
         {}, took);
    spdlog::info("{}: instance {} in standby after {} by {}, holding {} of its device and {} of the host:{}", frozen->model().str(),
                 event.instance.value(), base::format_duration(took), to_string(event.driver), base::format_bytes(event.held_device_bytes),
                 base::format_bytes(event.held_host_bytes), listed(event.phases));
  }
  scheduler_.instance_standby(event, loop_.now(), actions_);
  reservations_changed_ = true;
}

void Controller::on(const wire::FreezeFailed& event) {
  if (Replica* const kept = replica(event.instance); kept != nullptr && kept->stage() == Replica::Stage::freezing) {
    spdlog::warn("{}: instance {} could not be frozen{}: {}", kept->model().str(), event.instance.value(),
                 event.still_ready ? " and stays up" : " and ends", event.reason);
    note_transition(*kept, "failed");
    note(*kept, ModelEvent::Kind::freeze_failed, event.reason + (event.still_ready ? "; it stays up" : "; it ends"), {control::Rule::failure});
    if (event.still_ready) kept->stays_ready();
    else kept->close();
  }
  scheduler_.freeze_failed(event, loop_.now(), actions_);
  reservations_changed_ = true;
}

void Controller::on(const wire::SnapshotTaken& event) {
  if (Replica* const model = replica(event.instance)) {
    note_transition(*model, "ok");
    note(*model, ModelEvent::Kind::image_made, "image " + event.image.image.str(), {}, loop_.now() - model->ordered_at());
    spdlog::info("{}: image {} made in {}, {}:{}", model->model().str(), event.image.image.str(),
                 base::format_duration(loop_.now() - model->ordered_at()), base::format_bytes(event.image.bytes), listed(event.phases));
    model->close();
  }
  scheduler_.snapshot_taken(event, loop_.now(), actions_);
}

void Controller::on(const wire::SnapshotFailed& event) {
  if (Replica* const model = replica(event.instance)) {
    note_transition(*model, "failed");
    note(*model, ModelEvent::Kind::image_failed, event.reason, {control::Rule::failure});
    spdlog::warn("{}: no image {}: {}", model->model().str(), event.image.str(), event.reason);
    model->close();
  }
  scheduler_.snapshot_failed(event, loop_.now(), actions_);
}

void Controller::on(const wire::ImageGone& event) {
  spdlog::info("image {} is gone ({} free): {}", event.image.str(), base::format_bytes(event.freed_bytes), event.reason);
  metrics_.image_gone();
  scheduler_.image_gone(event, loop_.now(), actions_);
}

void Controller::on(const wire::InstanceWeights& event) {
  scheduler_.instance_weights(event);
  if (Replica* const loaded = replica(event.instance)) note_weights(*loaded, event.phase);
}

void Controller::on(const wire::WeightsState& event) {
  if (const auto found = caches_.find(event.node); found != caches_.end()) found->second->on(event);
}

void Controller::on(const wire::WeightsEvicted& event) {
  if (const auto found = caches_.find(event.node); found != caches_.end()) found->second->on(event);
}

void Controller::on(const wire::AdapterLoaded& event) {
  Replica* const of = replica(event.instance);
  if (of == nullptr || of->adapter(event.adapter) == nullptr) return;
  const bool good = event.error.empty();
  if (!good) spdlog::warn("{}: instance {} does not load adapter {}: {}", of->model().str(), event.instance.value(), event.adapter.str(), event.error);
  note(event.adapter, {.kind = good ? ModelEvent::Kind::loaded : ModelEvent::Kind::load_failed,
                       .replica = event.instance,
                       .node = of->node(),
                       .device = of->devices(),
                       .reason = good ? "by a replica of " + base::public_model(of->model()) : event.error});
  if (good) scheduler_.adapter_loaded(event.instance, event.adapter);
  of->adapter_loaded(event.adapter, event.error);
}

void Controller::on(const wire::FileHashed& event) {
  if (files_ != nullptr) files_->file_hashed(event);
}

void Controller::on(const wire::FilesSeen& event) {
  const Replica* const of = replica(event.instance);
  if (of != nullptr && files_ != nullptr) files_->files_seen(of->model(), event.files);
}

void Controller::on(const wire::FilesChanged& event) {
  const Replica* const of = replica(event.instance);
  if (of == nullptr) return;
  const base::ModelName model = of->model();
  // A file that is gone leaves its replicas whole: they have it mapped. Its next start will say what is wrong.
  if (!event.gone) scheduler_.instance_outdated(event.instance, event.file.path + " changed: " + event.detail, loop_.now(), actions_);
  if (files_ != nullptr) files_->files_changed(model, event);
}

}  // namespace thaw::controller
