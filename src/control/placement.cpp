// Where a replica goes and who makes room for it. Bytes are promised once: a claim holds them from the decision on until
// the start, an instance from its start until it is gone.
#include <algorithm>
#include <cassert>
#include <iterator>
#include <tuple>

#include "control/state.h"
#include "control/victims.h"

namespace thaw::control {

namespace {

using Rank = Offer::Rank;

/// What the loss of one idle replica costs: how often the model is asked for, times what its start takes, shared by its replicas.
double worth(const Model& m, base::TimePoint now) {
  return m.rate.per_second(now) * base::to_s(m.start_cost.value()) / std::max(m.ready(), 1U);
}

std::uint32_t siblings(const Device& d, const Model& m) {
  const auto on_device = std::count_if(d.instances.begin(), d.instances.end(), [&](const Instance* i) { return i->model == &m; });
  return static_cast<std::uint32_t>(on_device);
}

/// Best rank; then the cheapest victims; then not where it just failed, away from its own replicas, and the tightest fit
/// (large holes stay whole). The first device wins among equals.
bool better(const Offer& a, const Offer& b, const Model& m) {
  if (b.device == nullptr) return true;
  const auto key = [&](const Offer& o) {
    const Device& d = *o.device;
    return std::tuple(o.rank, m.failed_on == &d, o.cost, siblings(d, m), d.info.budget_bytes - d.reserved);
  };
  return key(a) < key(b);
}

}  // namespace

std::uint64_t Device::claimed() const {
  std::uint64_t sum = 0;
  for (const Claim& c : claims) sum += c.bytes;
  return sum;
}

/// A stop that takes far longer than it may: nobody counts on its bytes until they are really back.
bool Scheduler::State::overdue(const Instance& i, base::TimePoint now) const {
  return i.phase == Instance::Phase::stopping && i.stopped_at + policy.stop_grace + policy.stop_overdue <= now;
}

/// The replicas on `d` that may make room for `m` now or later; never so many that a model falls below its minReplicas.
std::vector<Candidate> Scheduler::State::candidates(const Device& d, const Model& m, base::TimePoint now) const {
  std::vector<Candidate> all;
  for (Instance* i : d.instances) {
    if (!i->usable() || i->model == &m) continue;
    const base::TimePoint at = evictable_at(*i, m);
    if (at != base::never()) all.push_back({i, i->bytes, worth(*i->model, now), i->idle_since, at});
  }
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.at < b.at; });
  std::vector<Candidate> allowed;
  for (const Candidate& c : all) {
    const Model* const owner = c.instance->model;
    const auto taken = std::count_if(allowed.begin(), allowed.end(), [&](const Candidate& o) { return o.instance->model == owner; });
    if (static_cast<std::uint32_t>(taken) + owner->min_replicas() < owner->ready()) allowed.push_back(c);
  }
  return allowed;
}

/// What it takes to run a replica of `m` on `d`. Preferred in this order: free bytes; bytes that come back anyway; an idle
/// replica's; those of a replica that ends its last requests already; a busy replica's whose turn is over.
Offer Scheduler::State::offer(Device& d, const Model& m, base::TimePoint now) const {
  Offer o;
  o.device = &d;
  const std::uint64_t budget = d.info.budget_bytes;
  if (d.info.kind != m.spec.resources.device || m.bytes > budget) return o;
  std::uint64_t wanted = d.reserved + d.claimed() + pinned_by_others(d, m) + m.bytes;
  const auto ranked = [&](Rank rank) { o.rank = rank; return o; };
  if (wanted <= budget) return ranked(Rank::free);

  std::uint64_t draining_bytes = 0;
  for (const Instance* i : d.instances) {
    if (i->phase == Instance::Phase::stopping && !overdue(*i, now)) wanted -= i->bytes;
    if (i->phase == Instance::Phase::ready && !i->usable()) draining_bytes += i->bytes;
  }
  if (wanted <= budget) return ranked(Rank::returning);

  const std::vector<Candidate> all = candidates(d, m, now);
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

/// Begins what `m` lacks, as far as there is room; else says when to try again, or refuses what can never be served.
void Scheduler::State::try_place(Model& m, base::TimePoint now, Actions& out) {
  while (missing(m, now) > 0) {
    if (!entitled(m)) m.waits_entitled = false, m.pinned = nullptr;
    Offer best;
    m.chance_at = base::never();
    for (const auto& d : devices) {
      Offer o = offer(*d, m, now);
      m.chance_at = std::min(m.chance_at, o.chance_at);
      if (o.rank != Rank::none && better(o, best, m)) best = std::move(o);
    }
    if (best.rank != Rank::none) {
      accept(best, m, now, out);
      continue;
    }
    refuse_hopeless(m, now, out);
    pin(m, now);
    break;
  }
  if (missing(m, now) == 0) leave_waiters(m);
}

/// What nobody else will ever make room for is not kept waiting.
void Scheduler::State::refuse_hopeless(Model& m, base::TimePoint now, Actions& out) {
  if (m.replicas() > 0 || m.queue.empty()) return;
  const std::string never = why_never(m);
  if (never.empty()) return;
  constexpr base::Duration kOperatorTakes = base::Seconds(5);  // no less: only a change by people helps
  refuse_all(m, Refuse::Why::no_capacity, never, std::max(retry_after(m, now), kOperatorTakes), out);
}

/// Everybody who waits for room, those without any replica first, each kind in the order in which they began to wait.
void Scheduler::State::settle(base::TimePoint now, Actions& out) {
  settled_at = now;
  timers.disarm(settle_timer);
  for (const bool first_ones : {true, false}) {
    const std::vector<Model*> in_order = waiters;
    for (Model* m : in_order) {
      if (!m->waiting || m->waits_entitled != first_ones) continue;
      try_place(*m, now, out);
      touch(*m);
    }
  }
  if (freed) revive_evicted(now);
}

void Scheduler::State::accept(const Offer& o, Model& m, base::TimePoint now, Actions& out) {
  Device& d = *o.device;
  const char* const reason = m.queue.empty() ? "minReplicas" : m.ready() == 0 ? "first request" : "more requests";
  d.claims.push_back({&m, m.bytes, reason});
  m.claims.push_back(&d);
  for (Instance* i : o.victims) {
    ++i->model->evictions;
    i->model->evicted_at = now;
    drain_instance(*i, Instance::Drain::evicted, "evicted for " + m.name(), now, out);
  }
  fund(d, now, out);
}

/// Starts the claims whose bytes are there; an earlier one's bytes are not given to a later one.
void Scheduler::State::fund(Device& d, base::TimePoint now, Actions& out) {
  std::uint64_t promised = d.reserved;
  for (std::size_t n = 0; n < d.claims.size();) {
    const Device::Claim claim = d.claims[n];
    promised += claim.bytes;
    if (promised > d.info.budget_bytes) {
      ++n;
      continue;
    }
    d.claims.erase(d.claims.begin() + static_cast<std::ptrdiff_t>(n));
    std::vector<Device*>& of_model = claim.model->claims;
    of_model.erase(std::find(of_model.begin(), of_model.end(), &d));
    start(d, claim, now, out);
    touch(*claim.model);
  }
  d.freed = freed = room_changed = true;
}

/// Gives a claim back: those behind it move up.
void Scheduler::State::cancel_claim(Model& m, Device& d, base::TimePoint now, Actions& out) {
  const auto claim = std::find_if(d.claims.rbegin(), d.claims.rend(), [&](const Device::Claim& c) { return c.model == &m; });
  assert(claim != d.claims.rend());
  d.claims.erase(std::next(claim).base());
  m.claims.erase(std::find(m.claims.begin(), m.claims.end(), &d));
  room_changed = true;
  fund(d, now, out);
}

/// Bytes of `d` that are spoken for once everything that is leaving in time has left.
std::uint64_t Scheduler::State::lasting(const Device& d, base::TimePoint now) const {
  std::uint64_t sum = d.claimed();
  for (const Instance* i : d.instances) {
    if (i->phase == Instance::Phase::starting || i->usable() || overdue(*i, now)) sum += i->bytes;
  }
  return sum;
}

/// Busy replicas that were to leave stay, if nobody needs their room any more.
void Scheduler::State::revive_evicted(base::TimePoint now) {
  for (const auto& d : devices) {
    if (!d->freed) continue;
    d->freed = false;
    for (Instance* i : d->instances) {
      if (i->phase != Instance::Phase::ready || i->drain != Instance::Drain::evicted) continue;
      if (lasting(*d, now) + i->bytes <= d->info.budget_bytes) revive(*i, now);
    }
  }
  freed = false;
}

void Scheduler::State::drop_claims(Model& m, base::TimePoint now, Actions& out) {
  while (!m.claims.empty()) cancel_claim(m, *m.claims.back(), now, out);
}

/// Claims that rely on a stop which does not end are given back, so that another device can be tried.
void Scheduler::State::drop_stuck_claims(Model& m, base::TimePoint now, Actions& out) {
  const std::vector<Device*> claimed_on = m.claims;
  for (Device* d : claimed_on) {
    if (lasting(*d, now) > d->info.budget_bytes) cancel_claim(m, *d, now, out);
  }
}

}  // namespace thaw::control
