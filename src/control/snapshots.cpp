// Making images: in the background, of a replica that serves nobody, where there is room that nobody wants; given up at once when somebody does.
// Device bytes and disk are reserved before it is begun.
#include <algorithm>
#include <cassert>

#include "base/units.h"
#include "control/state.h"

namespace thaw::control {

namespace {

/// " (runsc: not installed; criu: ...)", as far as the node says why.
std::string why_no_driver(const Node& node, spec::DeviceKind kind, bool gang) {
  std::string words;
  for (const wire::DriverInfo& d : node.drivers) {
    if (d.device != kind || (d.why_not.empty() && !d.snapshot)) continue;
    const char* own = d.driver == wire::DriverKind::runsc ? "only of models under runsc, which spec.sandbox can choose" : "only of models under runc";
    const std::string why = d.snapshot && gang && !d.gangs ? "not of a model that takes several devices" : d.snapshot ? own : d.why_not;
    words += std::string(words.empty() ? " (" : "; ") + wire::to_string(d.driver) + ": " + why;
  }
  return words.empty() ? words : words + ")";
}

}  // namespace

std::uint64_t Scheduler::State::image_quota(const Model& m) const {
  const auto most = m.owner->policy.max_image_bytes;
  if (!most) return ~std::uint64_t{0};
  std::uint64_t taken = 0;
  for (const auto& node : nodes)
    for (const auto& [id, image] : node->images)
      if (base::tenant_part(image->info.model) == base::tenant_part(m.spec.name)) taken += image->info.bytes;
  for (const auto& [id, instance] : instances)
    if (instance->phase == Phase::imaging && instance->model->owner == m.owner) taken += instance->disk_bytes;
  return taken >= *most ? 0 : *most - taken;
}

bool Scheduler::State::wants_image(const Model& m, const Node& node) const {
  if (m.removed || draining || m.spec.snapshot.mode == spec::Mode::never || !node.can_snapshot(m.spec)) return false;
  if (m.in(Phase::imaging) > 0) return false;
  const bool there = std::any_of(m.images.begin(), m.images.end(), [&](const Image* image) { return image->node == &node && !image->dropping; });
  return !there && (m.spec.snapshot.mode == spec::Mode::always || snapshot_worthwhile(m.costs, node.fastest_restore));
}

void Scheduler::State::think_of_snapshot(Model& m, base::TimePoint now, Actions& out) {
  if (now < m.snapshot_at) return;
  m.snapshot_at = base::never();
  const std::vector<Device*>& places = snapshot_places(m);
  if (std::none_of(places.begin(), places.end(), [&](const Device* d) { return wants_image(m, *d->owner); })) return;
  const auto begun = try_snapshot(m, false, now, out);
  if (begun.ok()) return;
  m.last_snapshot_failure = begun.error().message;
  snapshot_later(m, now);
}

/// Devices that may have room for a replica to make an image of.
const std::vector<Device*>& Scheduler::State::snapshot_places(const Model& m) {
  return looks_at_all() ? everywhere : shortlist.with_free(m.spec.resources.device, m.bytes);
}

/// Ever later, and not for ever: the next start begins anew.
void Scheduler::State::snapshot_later(Model& m, base::TimePoint now) const {
  if (++m.snapshot_tries >= policy.snapshot_tries) return;
  constexpr std::uint32_t kMostDoublings = 6;
  m.snapshot_at = now + policy.snapshot_after * (1 << std::min(m.snapshot_tries, kMostDoublings));
}

/// Where there is room that nobody wants, at a moment when nobody is being served (when there is none for long, then also beside requests).
base::Result<base::ImageId> Scheduler::State::try_snapshot(Model& m, bool by_hand, base::TimePoint now, Actions& out) {
  using base::ErrorKind;
  const std::string subject = "cannot make an image of " + m.name() + ": ";
  const auto error = [&](ErrorKind kind, const std::string& why) { return base::Error{kind, subject + why}; };
  if (draining) return error(ErrorKind::unavailable, "the server is shutting down");
  if (m.in(Phase::imaging) > 0) return error(ErrorKind::conflict, "one is being made");
  const std::uint64_t quota = image_quota(m);
  if (quota == 0) return error(ErrorKind::exhausted, "its tenant's quota of disk is used up; `thaw images` shows by what");
  if (!by_hand && in_flight > 0 && m.snapshot_tries < policy.snapshot_tries / 2) return error(ErrorKind::exhausted, "requests are being served");
  std::string why = std::string("no node has a ") + spec::to_string(m.spec.resources.device) + " device";
  auto kind = ErrorKind::unavailable;
  Offer place;
  for (Device* d : snapshot_places(m)) {
    Node& node = *d->owner;
    if (d->info.kind != m.spec.resources.device) continue;
    kind = ErrorKind::conflict;
    if (!node.can_snapshot(m.spec)) {
      why = "no driver for images works on " + node.name.str() + why_no_driver(node, d->info.kind, m.gang());
    } else if (const Image* const there = image_on(m, node)) {
      why = there->info.image.str() + " is there already; `thaw images rm " + there->info.image.str() + "` first";
    } else if (node.imaging > 0) {
      why = "another image is being made on " + node.name.str() + "; try again when it is done";
    } else if (place = m.gang() ? gang_offer(node.devices, m, nullptr, now) : offer(*d, m, nullptr, now);
               !waiters.empty() || place.rank != Offer::Rank::free) {
      kind = ErrorKind::exhausted;
      why = (m.gang() ? "no node has " + std::to_string(m.devices()) + " devices with " : "no device has ") + base::format_bytes(m.bytes) + " to spare for a replica to make it of; stop something";
    } else if (const std::uint64_t disk = make_disk_room(node, m, now, out); disk == 0) {
      kind = ErrorKind::exhausted;
      why = "the budget for images on " + node.name.str() + " is used up; `thaw images` shows by what";
    } else {
      return begin_snapshot(m, place, std::min(disk, quota), by_hand, now, out);
    }
  }
  return error(kind, why);
}

base::ImageId Scheduler::State::begin_snapshot(Model& m, const Offer& place, std::uint64_t disk_bytes, bool by_hand, base::TimePoint now, Actions& out) {
  Device& d = *place.device;
  const auto on = place.devices();
  Instance& i = create(m, {on.begin(), on.end()}, Phase::imaging, place.need, *m.owner, now);
  i.image = base::ImageId(m.spec.name.str() + "-" + std::to_string(i.id.value()));
  i.disk_bytes = disk_bytes;
  i.phase_deadline = m.spec.start_deadline + policy.snapshot_deadline;
  i.cause = {by_hand ? Rule::by_hand : Rule::image};
  i.reason = by_hand ? "image, asked for by hand" : "image, so that the next start is a restore";
  d.owner->image_reserved += disk_bytes;
  ++d.owner->imaging;
  touch(m);
  wire::TakeSnapshot command{i.image, i.id, m.spec, d.info.id, i.phase_deadline, disk_bytes};
  if (m.gang()) {
    for (const Device* each : i.devices) command.devices.push_back(each->info.id);
  }
  out.emplace_back(std::in_place_type<Snapshot>, d.node, std::move(command), i.reason, i.cause);
  return i.image;
}

/// Its replica is about to end, with or without an image: nothing is reserved for one any more.
void Scheduler::State::snapshot_ended(Instance& i, const std::string& failure, base::TimePoint now) {
  assert(i.phase == Phase::imaging);
  Node& node = *i.device->owner;
  assert(node.imaging > 0 && node.image_reserved >= i.disk_bytes);
  --node.imaging;
  node.image_reserved -= i.disk_bytes;
  i.disk_bytes = 0;
  Model& m = *i.model;
  touch(m);
  if (failure.empty()) return;
  ++m.snapshot_failures;
  m.last_snapshot_failure = failure;
  if (!m.removed && i.drain != Instance::Drain::asked) snapshot_later(m, now);
}

void Scheduler::State::taken(const wire::SnapshotTaken& e, base::TimePoint now, Actions& out) {
  Instance* const i = find(e.instance);
  if (i == nullptr || i->phase == Phase::gone || i->image.empty() || e.image.image != i->image) return;
  // Ordered to stop in the same moment: the image is there all the same, and belongs in the books.
  Node& node = *i->device->owner;
  if (i->phase == Phase::imaging) {
    snapshot_ended(*i, "", now);
    enter(*i, Trigger::image_done, now);
    i->cause = {Rule::image};
    i->reason = "the image is made";
    i->model->last_snapshot_failure.clear();
    changed_on(*i);
  }
  wire::ImageInfo info = e.image;
  info.model = i->model->spec.name;
  adopt_image(std::move(info), node);
  Image* const image = find_image(i->image);
  const bool outdated = i->model->removed || i->drain == Instance::Drain::replaced;
  if (image != nullptr && outdated) drop(*image, "its model is another one by now", out);
  relieve_disk(node, now, out);
  work(now, out);
}

void Scheduler::State::not_taken(const wire::SnapshotFailed& e, base::TimePoint now, Actions& out) {
  Instance* const i = find(e.instance);
  if (i == nullptr || i->phase != Phase::imaging) return;
  snapshot_ended(*i, e.reason.empty() ? "it failed" : e.reason, now);
  enter(*i, Trigger::image_done, now);
  i->cause = {Rule::failure};
  i->reason = "no image: " + e.reason;
  changed_on(*i);
  work(now, out);
}

base::Result<base::ImageId> Scheduler::State::snapshot_model(const base::ModelName& name, base::TimePoint now, Actions& out) {
  const auto found = models.find(name);
  if (found == models.end()) return base::Error{base::ErrorKind::not_found, "there is no model \"" + base::public_model(name) + "\""};
  auto begun = try_snapshot(*found->second, true, now, out);
  work(now, out);
  return begun;
}

}  // namespace thaw::control
