// Where a replica goes and who makes room for it. Bytes are promised once: a claim holds them from the decision on until
// the start, an instance from its start until it is gone.
#include <algorithm>
#include <cassert>
#include <iterator>
#include <tuple>
#include <utility>

#include "control/state.h"
#include "control/victims.h"

namespace thaw::control {

namespace {

using Rank = Offer::Rank;

/// What the loss of one idle replica costs: how often the model is asked for, times what its start takes, shared by its replicas.
double worth(const Model& m, base::TimePoint now) {
  return m.rate.per_second(now) * base::to_s(m.start_cost()) / std::max(m.ready(), 1U);
}

std::uint32_t siblings(const Device& d, const Model& m) {
  const auto on_device = std::count_if(d.instances.begin(), d.instances.end(), [&](const Instance* i) { return i->model == &m; });
  return static_cast<std::uint32_t>(on_device);
}

/// Replicas of `m` that would go down with the same machine, or with the same part of the fleet.
template <typename Here>
std::uint32_t siblings(const Model& m, const Here& is_here) {
  const auto here = [&](const Device* d) { return d != nullptr && is_here(*d->owner); };
  const auto up = std::count_if(m.instances.begin(), m.instances.end(), [&](const Instance* i) { return here(i->device); });
  return static_cast<std::uint32_t>(up + std::count_if(m.claims.begin(), m.claims.end(), here) / m.devices());
}

}  // namespace

/// Ranks that cost nobody more than an idle replica are compared by when the requests would be answered, the others by
/// themselves; but not where it just failed. Among equals the better rank; a wake; the cheapest victims; away from its
/// own replicas: in another failure domain, then on another machine, then on another device; where the fewest others are at work; and the
/// tightest fit (large holes stay whole). Then the first device wins.
bool Scheduler::State::better(const Offer& a, const Offer& b, const Model& m) {
  if (b.device == nullptr) return true;
  const auto key = [&](const Offer& o) {
    const Device& d = *o.device;
    const auto on = o.devices();
    const bool failed_there = o.wake == nullptr && std::find(on.begin(), on.end(), m.failed_on) != on.end();
    return std::tuple(std::max(o.rank, Rank::evict_idle), failed_there, o.score, o.rank,
                      o.wake == nullptr, o.cost, siblings(m, [&](const Node& node) { return node.domain == d.owner->domain; }),
                      siblings(m, [&](const Node& node) { return &node == d.owner; }), siblings(d, m), at_work(d, m),
                      d.info.budget_bytes - d.reserved);
  };
  return key(a) < key(b);
}

/// Replicas that compute, or move their weights for somebody who waits, on the device at present: whoever comes there shares its time and its bus
/// with them. Nobody waits for the replicas that are always kept: those are packed.
std::uint32_t Scheduler::State::at_work(const Device& d, const Model& m) {
  if (m.queue.empty()) return 0;
  const auto working = std::count_if(d.instances.begin(), d.instances.end(), [](const Instance* i) {
    return i->in_flight > 0 || (i->rising() && !i->model->queue.empty()) || i->phase == Phase::freezing;
  });
  const auto coming = std::count_if(d.claims.begin(), d.claims.end(), [](const Device::Claim& c) { return !c.model->queue.empty(); });
  return static_cast<std::uint32_t>(working + coming);
}

std::uint64_t Device::pinned_bytes() const {
  std::uint64_t sum = 0;
  for (const Model* m : pinned) sum += m->bytes;
  return sum;
}

std::uint64_t Device::claimed() const {
  std::uint64_t sum = 0;
  for (const Claim& c : claims) sum += c.bytes;
  return sum;
}

/// Whether an idle replica that has to make room does so by being frozen: only where that frees nearly all that it holds.
bool Scheduler::State::freezes_to_make_way(const Instance& i, base::TimePoint now) const {
  constexpr std::uint64_t kLittle = 8;  // of its bytes, as a divisor
  const Node& node = *i.device->owner;
  if (i.phase != Phase::ready || i.in_flight > 0 || !may_rest_in_standby(i)) return false;
  if (expected_device_bytes(i) > i.bytes / kLittle || !would_rest_in_standby(i) || standby_is_dear(i, now))
    return false;
  return node.host_reserved - i.host_bytes + expected_host_bytes(i) <= node.host_budget;
}

/// Bytes that one that makes way frees on each of its devices.
std::uint64_t Scheduler::State::gives_up(const Instance& i, base::TimePoint now) const {
  return freezes_to_make_way(i, now) ? i.bytes - expected_device_bytes(i) : i.bytes;
}

/// Who may make room on `d` for `m` now or later, beside those that are `leaving` for it already; of replicas in service never so many that a model falls below its minReplicas. Those in
/// standby and those that are made images of serve nobody and may go at any time.
std::vector<Candidate> Scheduler::State::candidates(const Device& d, const Model& m, const Instance* to_wake, base::TimePoint now,
                                                    const std::vector<Instance*>& leaving) const {
  std::vector<Candidate> all, allowed;
  for (Instance* i : d.instances) {
    if (!leaving.empty() && std::find(leaving.begin(), leaving.end(), i) != leaving.end()) continue;
    if (i->usable() && i->model != &m) {
      const base::TimePoint at = evictable_at(*i, m);
      if (at != base::never()) all.push_back({i, gives_up(*i, now), worth(*i->model, now) * standing(*i, now), i->idle_since, at});
    } else if (i->phase == Phase::standby && i != to_wake && !i->wake_claimed && i->bytes > 0) {
      const base::TimePoint at = m.waits_entitled || i->model == &m ? base::TimePoint{} : i->idle_since + policy.spare_after;
      allowed.push_back({i, i->bytes, resting_worth(*i, now) * standing(*i, now), i->idle_since, at});
    } else if (i->phase == Phase::imaging) {
      allowed.push_back({i, i->bytes, 0, base::TimePoint{}, base::TimePoint{}});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.at < b.at; });
  for (const Candidate& c : all) {
    const Model* const owner = c.instance->model;
    const auto taken = std::count_if(allowed.begin(), allowed.end(),
                                     [&](const Candidate& o) { return o.instance->usable() && o.instance->model == owner; }) +
                       std::count_if(leaving.begin(), leaving.end(), [&](const Instance* i) { return i->usable() && i->model == owner; });
    if (static_cast<std::uint32_t>(taken) + owner->min_replicas() < owner->ready()) allowed.push_back(c);
  }
  return allowed;
}

/// What a start of `m` on `d` holds beside its bytes until it has ended. No more than there can be: a model that fits only without it has the kernel drop
/// what it has read while it reads on.
std::uint64_t Scheduler::State::loading_bytes(const Device& d, const Model& m) const {
  if (m.loading_bytes == 0) return 0;
  const std::uint64_t taken = kept_for_others(d, &m) + m.bytes;
  return std::min(m.loading_bytes, d.info.budget_bytes - std::min(d.info.budget_bytes, taken));
}

/// What it takes to have another replica of `m` on `d`: all bytes of a new one, or what `to_wake` gave up. Preferred in this order: free bytes;
/// bytes that come back anyway; those of who serves nobody at present; those of a replica that ends its last requests already; a busy
/// replica's whose turn is over.
/// `leaving`: make room already, for another device of the same gang.
Offer Scheduler::State::offer(Device& d, const Model& m, Instance* to_wake, base::TimePoint now, const std::vector<Instance*>& leaving) const {
  Offer o;
  o.device = &d;
  o.wake = to_wake;
  o.need = to_wake != nullptr ? to_wake->full_bytes - to_wake->bytes : m.bytes + loading_bytes(d, m);
  const std::uint64_t budget = d.info.budget_bytes;
  if (d.info.kind != m.spec.resources.device || o.need > budget) return o;
  if (d.duty == Duty::drained || (d.duty == Duty::cordoned && to_wake == nullptr)) return o;
  std::uint64_t wanted = d.reserved + d.claimed() + pinned_by_others(d, m) + o.need;
  for (const Instance* i : leaving) {
    if (std::find(i->devices.begin(), i->devices.end(), &d) != i->devices.end()) wanted -= gives_up(*i, now);
  }
  const auto ranked = [&](Rank rank) { o.rank = rank; return o; };
  if (wanted <= budget) return ranked(Rank::free);

  std::uint64_t draining_bytes = 0;
  for (const Instance* i : d.instances) {
    if (i->phase == Phase::ready && !i->usable()) draining_bytes += i->bytes;
    else wanted -= i->bytes - lasting(*i, now);
  }
  if (wanted <= budget) return ranked(Rank::returning);

  const std::vector<Candidate> all = candidates(d, m, to_wake, now, leaving);
  const auto choose = [&](std::uint64_t need, bool idle_only) {
    std::vector<Candidate> eligible;
    std::copy_if(all.begin(), all.end(), std::back_inserter(eligible), [&](const Candidate& c) {
      return c.at <= now && (!idle_only || c.instance->in_flight == 0);
    });
    for (const Candidate& c : choose_victims(std::move(eligible), need)) {
      o.victims.push_back(c.instance);
      o.cost += c.value;
    }
    return !o.victims.empty();
  };
  if (choose(wanted - budget, true)) return ranked(Rank::evict_idle);
  wanted -= draining_bytes;
  if (wanted <= budget) return ranked(Rank::draining);
  if (choose(wanted - budget, false)) return ranked(Rank::evict_busy);
  o.chance_at = enough_at(all, wanted - budget);
  return o;
}

/// When the requests that wait would have their first answer, and what the loss of the victims costs others, as time:
/// those that are likely to be asked for soon would have to come up again.
void Scheduler::State::judge(Offer& o, const Model& m, base::TimePoint now) const {
  constexpr base::Duration kNoDifference =
      base::Millis(50);  // what is closer together than that is decided by other things
  constexpr double kSoon_s = 5;
  base::Duration answer{};
  for (const Device* d : o.devices()) {
    const base::Duration returns = o.rank == Rank::returning ? time_to_return(*d, now) : base::Duration::zero();
    answer = std::max(answer, time_to_answer(*d, m, o.wake, now) + returns);
  }
  if (o.rank == Rank::evict_idle) answer += time_to_make_way(o, now);
  o.score = answer / kNoDifference + static_cast<std::int64_t>(o.cost * kSoon_s / base::to_s(kNoDifference));
}

bool Scheduler::State::can_wake(const Model& m) {
  return m.in(Phase::standby) > 0 && std::any_of(m.instances.begin(), m.instances.end(), [](const Instance* i) {
    return i->phase == Phase::standby && !i->wake_claimed;
  });
}

/// Where to look for room for `m`. Valid until it is asked again.
const std::vector<Device*>& Scheduler::State::places_for(Model& m) {
  if (looks_at_all()) return everywhere;
  return m.gang() ? shortlist.for_gang(m, m.bytes, m.devices()) : shortlist.for_model(m, m.bytes);
}

/// Waking one of its own before anything else, if that asks nobody for more than idle bytes; after failed starts, until the back-off ends,
/// nothing but that.
Offer Scheduler::State::best_offer(Model& m, const std::vector<Device*>& places, base::TimePoint now) const {
  Offer best;
  m.chance_at = base::never();
  const auto take = [&](Offer o) {
    m.chance_at = std::min(m.chance_at, o.chance_at);
    if (o.rank == Rank::none) return;
    judge(o, m, now);
    if (better(o, best, m)) best = std::move(o);
  };
  if (can_wake(m)) {
    for (Instance* i : m.instances) {
      if (i->phase == Phase::standby && !i->wake_claimed) take(m.gang() ? gang_offer(i->devices, m, i, now) : offer(*i->device, m, i, now));
    }
  }
  if (now < m.backoff_until) return best;
  if (!m.gang()) {
    for (Device* d : places) take(offer(*d, m, nullptr, now));
    return best;
  }
  std::vector<const Node*> seen;
  for (const Device* d : places) {
    if (std::find(seen.rbegin(), seen.rend(), d->owner) != seen.rend()) continue;
    seen.push_back(d->owner);
    take(gang_offer(d->owner->devices, m, nullptr, now));
  }
  return best;
}

/// Begins what `m` lacks, as far as there is room; else says when to try again, or refuses what can never be served.
void Scheduler::State::try_place(Model& m, base::TimePoint now, Actions& out) {
  m.looked_at = now;
  while (missing(m, now) > 0) {
    if (!entitled(m)) m.waits_entitled = false, unpin(m);
    Offer best = best_offer(m, places_for(m), now);
    if (best.rank != Rank::none) {
      if (accept_for_payer(best, m, now, out)) continue;
      break;
    }
    refuse_hopeless(m, now, out);
    pin(m, now);
    break;
  }
  if (missing(m, now) == 0) leave_waiters(m);
}

/// What nobody else will ever make room for is not kept waiting.
void Scheduler::State::refuse_hopeless(Model& m, base::TimePoint now, Actions& out) {
  if (m.replicas() > 0 || (m.queue.empty() && !m.summoned) || can_wake(m)) return;
  const std::string never = why_never(m);
  if (never.empty()) return;
  m.summoned = false;
  constexpr base::Duration kOperatorTakes = base::Seconds(5);  // no less: only a change by people helps
  refuse_all(m, Refuse::Why::no_capacity, never, std::max(retry_after(m, now), kOperatorTakes), out);
}

/// As try_place, but only where something changed since.
void Scheduler::State::look_at_changed(Model& m, const std::vector<Device*>& where, base::TimePoint now, Actions& out) {
  std::vector<Device*> places;
  const std::uint64_t least = m.in(Phase::standby) > 0 ? 0 : m.bytes;  // one that is woken holds some bytes already
  for (Device* d : where) {
    if (d->info.kind == m.spec.resources.device && shortlist.room(*d) >= least) places.push_back(d);
  }
  if (places.empty()) return;
  const base::TimePoint chance_elsewhere = m.chance_at;
  while (missing(m, now) > 0) {
    if (!entitled(m)) m.waits_entitled = false, unpin(m);
    Offer best = best_offer(m, places, now);
    if (best.rank == Offer::Rank::none || !accept_for_payer(best, m, now, out)) break;
    touch(m);
  }
  m.chance_at = std::min(m.chance_at, chance_elsewhere);
  if (missing(m, now) == 0) return leave_waiters(m);
  timers.arm_at_latest(m.timer, m.chance_at);
}

/// Everybody who waits for room, those without any replica first, each kind in the order in which they began to wait.
void Scheduler::State::settle(base::TimePoint now, Actions& out) {
  settled_at = now;
  timers.disarm(settle_timer);
  constexpr std::size_t kMostLooks = 16'384;  // at devices, by all who wait together; else only at what changed
  const bool all = changed_everywhere || tiny() || (looks_at_all() && waiters.size() * devices.size() <= kMostLooks);
  changed_everywhere = false;
  const std::vector<Device*> where = std::exchange(changed, {});
  for (Device* d : where) d->changed = false;
  const bool room = !waiters.empty() && std::any_of(where.begin(), where.end(), [&](Device* d) {
    return shortlist.room(*d) >= *waiting_for.begin() || std::any_of(d->instances.begin(), d->instances.end(), [](const Instance* i) { return i->phase == Phase::standby; });
  });
  for (const bool first_ones : {true, false}) {
    if (!all && !room && lookers == 0) break;
    const std::uint64_t end = next_waiter;
    for (auto at = waiters.begin(); at != waiters.end();) {
      const WaitOrder place = at->first;
      Model& m = *at->second;
      if (m.waits_entitled == first_ones && place.number < end) {
        if (all || m.looks_everywhere) {
          lookers -= m.looks_everywhere ? 1 : 0;
          m.looks_everywhere = false;
          try_place(m, now, out);
          touch(m);
        } else {
          look_at_changed(m, where, now, out);
        }
      }
      at = waiters.upper_bound(place);
    }
  }
  if (!freed.empty()) revive_evicted(now);
}

/// False: all whose requests wait hold as many devices as they may; nothing is kept for it meanwhile.
bool Scheduler::State::accept_for_payer(Offer& o, Model& m, base::TimePoint now, Actions& out) {
  o.tenant = payer(m, o);
  m.waits_for_quota = o.tenant == nullptr;
  if (o.tenant != nullptr) {
    accept(o, m, now, out);
    return true;
  }
  unpin(m);
  refuse_beyond_quota(m, o, out);
  make_quota_room(m, o, now, out);
  return false;
}

void Scheduler::State::accept(const Offer& o, Model& m, base::TimePoint now, Actions& out) {
  Device& d = *o.device;
  const char* const reason = !m.queue.empty() ? (m.ready() == 0 ? "first request" : "more requests")
                             : m.summoned     ? "asked for by hand"
                             : o.expects_until > base::TimePoint{} ? "a request is expected"
                                                                   : "minReplicas";
  const Request* const first = m.queue.first_retried() != nullptr ? m.queue.first_retried() : m.queue.first_fair();
  const Rule rule = first != nullptr                      ? Rule::request
                    : m.summoned                          ? Rule::by_hand
                    : o.expects_until > base::TimePoint{} ? Rule::expected
                                                          : Rule::min_replicas;
  const Cause cause{rule, first != nullptr ? first->id : base::RequestId{}};
  const std::uint64_t number = next_claim++;
  for (Device* each : o.devices()) {
    each->claims.push_back({&m, o.need, reason, o.wake, o.expects_until, number, o.gang, o.tenant != nullptr ? o.tenant : m.owner, cause});
    hold_for(*each->claims.back().tenant, claimed_devices(*each, each->claims.back()), now);
    m.claims.push_back(each);
    shortlist.changed(*each);
  }
  if (o.wake != nullptr) o.wake->wake_claimed = true;
  for (Instance* i : o.victims) {
    if (i->phase != Phase::imaging) {
      ++i->model->evictions;
      i->model->evicted_at = now;
    }
    const bool same_tenant = base::tenant_part(i->model->spec.name) == base::tenant_part(m.spec.name);
    i->cause = {Rule::evicted, same_tenant ? cause.request : base::RequestId{}};
    if (i->phase == Phase::ready && i->in_flight == 0) make_way(*i, "evicted for " + m.name_for(*i->model), now, out);
    else drain_instance(*i, Instance::Drain::evicted, "evicted for " + m.name_for(*i->model), now, out);
  }
  fund(d, now, out);
}

/// An idle replica gives its bytes to somebody else: frozen if that is enough and its model rests in standby, else stopped.
void Scheduler::State::make_way(Instance& i, const std::string& reason, base::TimePoint now, Actions& out) {
  if (freezes_to_make_way(i, now)) {
    freeze(i, reason, now, out);
  } else if (i.drain == Instance::Drain::none) {
    drain_instance(i, Instance::Drain::evicted, reason, now, out);
  } else {
    stop(i, now, out);
  }
}

/// From all its devices.
Device::Claim Scheduler::State::take_claim(Device& d, std::size_t n, base::TimePoint now) {
  Device::Claim claim = d.claims[n];
  if (claim.gang.empty()) claim.gang.push_back(&d);
  std::vector<Device*>& of_model = claim.model->claims;
  for (Device* each : claim.gang) {
    hold_for(*claim.tenant, -claimed_devices(*each, claim), now);
    std::erase_if(each->claims, [&](const Device::Claim& c) { return c.number == claim.number; });
    shortlist.changed(*each);
    of_model.erase(std::find(of_model.begin(), of_model.end(), each));
  }
  return claim;
}

/// Begins the claims whose bytes are there; an earlier one's bytes are not given to a later one.
void Scheduler::State::fund(Device& d, base::TimePoint now, Actions& out) {
  std::uint64_t promised = d.reserved;
  for (std::size_t n = 0; n < d.claims.size();) {
    promised += d.claims[n].bytes;
    if (promised > d.info.budget_bytes || !funded_elsewhere(d, d.claims[n])) {
      ++n;
      continue;
    }
    const Device::Claim claim = take_claim(d, n, now);
    if (claim.wake != nullptr) wake(d, claim, now, out);
    else start(d, claim, now, out);
    touch(*claim.model);
  }
  note_freed(d);
  changed_on(d);
}

void Scheduler::State::note_freed(Device& d) {
  if (d.freed) return;
  d.freed = true;
  freed.push_back(&d);
}

/// Gives a claim back: those behind it move up.
void Scheduler::State::cancel_claim(Model& m, Device& d, base::TimePoint now, Actions& out) {
  const auto claim = std::find_if(d.claims.rbegin(), d.claims.rend(), [&](const Device::Claim& c) { return c.model == &m; });
  assert(claim != d.claims.rend());
  if (claim->wake != nullptr) {
    claim->wake->wake_claimed = false;
    touch(m);  // its time in standby counts again
  }
  const Device::Claim taken = take_claim(d, static_cast<std::size_t>(std::distance(d.claims.begin(), std::next(claim).base())), now);
  for (Device* each : taken.gang) fund(*each, now, out);
}

/// Whoever was to be woken ends: its model needs another replica.
void Scheduler::State::cancel_wake(Instance& i, base::TimePoint now, Actions& out) {
  if (!i.wake_claimed) return;
  Device& d = *i.device;
  const auto claim = std::find_if(d.claims.begin(), d.claims.end(), [&](const Device::Claim& c) { return c.wake == &i; });
  assert(claim != d.claims.end());
  i.wake_claimed = false;
  const Device::Claim taken = take_claim(d, static_cast<std::size_t>(std::distance(d.claims.begin(), claim)), now);
  touch(*i.model);
  for (Device* each : taken.gang) fund(*each, now, out);
}

/// Not all the bytes that they count on will come, perhaps.
void Scheduler::State::look_at_claims(const Device& d) {
  for (const Device::Claim& c : d.claims) touch(*c.model);
}

/// Bytes of `d` that are spoken for once everything that is leaving in time has left.
std::uint64_t Scheduler::State::lasting_on(const Device& d, base::TimePoint now) const {
  std::uint64_t sum = d.claimed();
  for (const Instance* i : d.instances) sum += lasting(*i, now);
  return sum;
}

/// Busy replicas that were to leave stay, if nobody needs their room any more.
void Scheduler::State::revive_evicted(base::TimePoint now) {
  std::vector<Device*> in_order = std::exchange(freed, {});
  std::sort(in_order.begin(), in_order.end(), [](const Device* a, const Device* b) { return a->entry.number < b->entry.number; });
  for (Device* d : in_order) {
    d->freed = false;
    for (Instance* i : d->instances) {
      if (i->phase != Phase::ready || i->drain != Instance::Drain::evicted) continue;
      const bool spared = std::all_of(i->devices.begin(), i->devices.end(), [&](const Device* its) {
        return lasting_on(*its, now) + i->bytes <= its->info.budget_bytes;
      });
      if (spared) revive(*i, now);
    }
  }
}

void Scheduler::State::drop_claims(Model& m, base::TimePoint now, Actions& out) {
  while (!m.claims.empty()) cancel_claim(m, *m.claims.back(), now, out);
}

/// Claims that rely on a stop which does not end are given back, so that another device can be tried.
void Scheduler::State::drop_stuck_claims(Model& m, base::TimePoint now, Actions& out) {
  const std::vector<Device*> claimed_on = m.claims;
  for (Device* d : claimed_on) {
    const bool still = std::find(m.claims.begin(), m.claims.end(), d) != m.claims.end();
    if (still && lasting_on(*d, now) > d->info.budget_bytes) cancel_claim(m, *d, now, out);
  }
}

}  // namespace thaw::control
