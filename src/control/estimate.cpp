// When a replica would answer, on each device: what its way up takes, what disk, bus and device are already promised to
// others, and what has to leave first. Bandwidth is promised like bytes: once, from the decision on. What is not known
// yet counts nothing, so that nothing is invented.
#include <algorithm>

#include "control/state.h"

namespace thaw::control {

namespace {

base::Duration ahead(base::TimePoint busy_until, base::TimePoint now) {
  return std::max(busy_until - now, base::Duration::zero());
}

std::uint64_t cache_room(const Node& node) {
  return node.cache_budget - std::min(node.cache_budget, node.host_reserved);
}

base::Duration seconds(double s) {
  return base::Duration(static_cast<std::int64_t>(s * 1e9));
}

}  // namespace

/// By which a new replica would come up there, alone on disk and bus.
base::Duration Scheduler::State::quickest_up(const Model& m, const Node& node) const {
  const bool restores = image_for(m, node) != nullptr && (m.restores_preferred || !m.costs.start.known());
  const CostEstimate& way = restores && m.costs.restore.known() ? m.costs.restore : m.costs.start;
  return way.known() ? way.quickest() : m.costs.restore.quickest();
}

/// Of a model that never came up: as large a part of a replica as others' are.
std::uint64_t Scheduler::State::weights_of(const Model& m) const {
  if (m.weights_bytes > 0) return m.weights_bytes;
  return static_cast<std::uint64_t>(static_cast<double>(m.bytes) * weights_share);
}

/// Reading its weights from the node's disk, if they are not in its memory already. A disk that nothing was read from yet is taken to be
/// as fast as the fastest one known: else all new models would go where nothing is known.
base::Duration Scheduler::State::disk_time(const Model& m, const Node& node) const {
  const double rate = node.read_bytes_per_s > 0 ? node.read_bytes_per_s : read_bytes_per_s;
  if (rate <= 0 || node.warm.has(m)) return {};
  return seconds(static_cast<double>(weights_of(m)) / rate);
}

/// From the time its room is there to its first answer. `to_wake`: the replica in standby that is woken; null: a new
/// one.
base::Duration Scheduler::State::time_to_answer(const Device& d, const Model& m, const Instance* to_wake,
                                                base::TimePoint now) const {
  const bool bus = d.info.kind != spec::DeviceKind::cpu;
  const base::Duration bus_ahead = bus ? ahead(d.bus_busy_until, now) : base::Duration::zero();
  // Who computes there shares the device with it until its first token. Where device time is what counts, until the answer's end: both hold the device longer.
  const base::Duration alone = policy.automatic_idle ? std::max(m.first_answer.value(), m.service.value()) : m.first_answer.value();
  const base::Duration shared = at_work(d, m) * alone;
  if (to_wake != nullptr) {
    // On a CPU it holds memory where the other would come up: whether a start would be better was decided when it was
    // put to rest.
    const bool known = bus && m.costs.wake.samples() >= kTrials;
    return (known ? m.costs.wake.quickest() + bus_ahead : base::Duration::zero()) + shared;
  }
  const base::Duration disk = disk_time(m, *d.owner);
  const base::Duration disk_ahead = disk > base::Duration::zero() ? ahead(d.owner->disk_busy_until, now) + disk : disk;
  return quickest_up(m, *d.owner) + std::max(bus_ahead, disk_ahead) + shared;
}

/// From now until everything that is leaving the device by itself has left, as far as that is known.
base::Duration Scheduler::State::time_to_return(const Device& d, base::TimePoint now) const {
  base::Duration longest{};
  for (const Instance* i : d.instances) {
    if (i->phase != Phase::stopping && i->phase != Phase::freezing) continue;
    const base::Duration takes = i->phase == Phase::stopping ? d.owner->stops.mean() : i->model->costs.freeze.mean();
    longest = std::max(longest, i->phase_since + takes - now);
  }
  return longest;
}

/// From now until those that must make room have left.
base::Duration Scheduler::State::time_to_make_way(const Offer& o, base::TimePoint now) const {
  base::Duration longest{};
  for (const Device* d : o.devices()) longest = std::max(longest, time_to_return(*d, now));
  for (const Instance* i : o.victims)
    longest =
        std::max(longest, freezes_to_make_way(*i, now) ? i->model->costs.freeze.mean() : o.device->owner->stops.mean());
  return longest;
}

/// Where its bytes would be there last.
const Device& Scheduler::State::busiest_bus(const Instance& i) {
  return **std::max_element(i.devices.begin(), i.devices.end(), [](const Device* a, const Device* b) { return a->bus_busy_until < b->bus_busy_until; });
}

/// Whether going to standby costs others more than it saves, where an image is there to come back from. Its bytes
/// travel over a bus that others wait for, where a stop moves none. And they lie in host memory in which the weights of
/// models would be warm for all devices of the machine: that is short when ways up wait for the disk.
bool Scheduler::State::standby_is_dear(const Instance& i, base::TimePoint now) const {
  const Model& m = *i.model;
  const Device& d = busiest_bus(i);
  constexpr double kLittle = 0.1;  // of what a wake saves
  constexpr base::Duration kOfUse = std::chrono::hours(1);  // weights that nobody used for so long are no loss
  if (d.info.kind == spec::DeviceKind::cpu || m.spec.standby.mode == spec::Mode::always ||
      image_for(m, *d.owner) == nullptr)
    return false;
  if (!m.costs.wake.known() || !m.costs.freeze.known() || !m.costs.restore.known()) return false;
  const base::Duration saved = m.costs.restore.quickest() - m.costs.wake.quickest();
  // What others have of its memory would leave for it: one in standby is of use on its device alone, weights in memory are on all of them.
  const std::uint64_t needs = expected_host_bytes(i) - i.host_bytes;
  if (d.owner->cache_budget > 0 && !d.owner->warm.spares(needs, cache_room(*d.owner), now - kOfUse)) return true;
  if (d.owner->disk_wait_s > kLittle * base::to_s(saved)) return true;
  const auto waited_for = std::count_if(d.instances.begin(), d.instances.end(),
                                        [](const Instance* o) { return o->rising() && !o->model->queue.empty(); });
  const auto claims = static_cast<std::ptrdiff_t>(d.claims.size());
  const base::Duration freeze = m.costs.freeze.quickest();
  const PauseCosts standby{ahead(d.bus_busy_until, now) + freeze + (waited_for + claims) * freeze, m.costs.wake.mean()};
  const PauseCosts stopped{d.owner->stops.mean(), m.costs.restore.mean()};
  return stopped.break_even() < standby.break_even();
}

/// It is on its way: its share of disk and bus is promised to it.
void Scheduler::State::promise_way_up(const Instance& i, base::TimePoint now) {
  constexpr double kLastFew = 8;
  Node& node = *i.device->owner;
  const bool wakes = i.phase == Phase::waking;
  const base::Duration alone = wakes ? i.model->costs.wake.quickest() : quickest_up(*i.model, node);
  const base::Duration disk = wakes ? base::Duration::zero() : disk_time(*i.model, node);
  const bool reads = disk > base::Duration::zero();
  for (Device* each : i.devices) each->bus_busy_until = now + ahead(each->bus_busy_until, now) + alone;  // all at the same time
  if (reads) node.disk_busy_until = now + ahead(node.disk_busy_until, now) + disk;
  node.disk_wait_s += ((reads ? base::to_s(node.disk_busy_until - now) : 0) - node.disk_wait_s) / kLastFew;
}

/// Host memory is short: its weights have to be read, and would find no room to stay. One in standby that is worth less
/// than they are leaves, if it can come back from an image.
void Scheduler::State::make_room_for_weights(const Model& m, Node& node, base::TimePoint now, Actions& out) {
  const base::Duration disk = disk_time(m, node);
  if (disk <= base::Duration::zero() || node.warm.bytes() + weights_of(m) <= cache_room(node)) return;
  const double worth = worth_per_byte(m.rate.per_second(now), disk, weights_of(m));
  Instance* const victim = least_worth_resting(node, worth, now);
  if (victim == nullptr || victim->device->info.kind == spec::DeviceKind::cpu) return;
  if (image_for(*victim->model, node) == nullptr) return;
  ++victim->model->evictions;
  drain_instance(*victim, Instance::Drain::evicted, "its host memory is for the weights of " + m.name_for(*victim->model), now, out);
}

void Scheduler::State::promise_way_down(const Instance& i, base::TimePoint now) {
  for (Device* d : i.devices) d->bus_busy_until = now + ahead(d->bus_busy_until, now) + i.model->costs.freeze.quickest();
}

/// Its weights have been read there, or were there.
void Scheduler::State::weights_used(const Model& m, Node& node, base::TimePoint now) {
  if (m.weights_bytes > 0 && !m.removed) node.warm.used(m, m.weights_bytes, cache_room(node), now);
}

/// A replica on a device of its own rests with all that it needs: the files may leave memory first, and have to where
/// it takes their room.
void Scheduler::State::weights_rest(const Model& m, Node& node) {
  node.warm.may_leave(m);
  node.warm.resize(cache_room(node));
}

}  // namespace thaw::control
