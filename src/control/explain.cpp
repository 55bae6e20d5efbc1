// What would happen on a request now. The request is supposed to wait, the code that decides is asked, and the books are put back as they were:
// nothing here estimates or decides anything by rules of its own, except how long a request waits for a slot.
#include "control/explain.h"

#include <algorithm>
#include <limits>

#include "base/units.h"
#include "control/priority.h"
#include "control/state.h"

namespace thaw::control {

namespace {

using base::format_duration;

constexpr base::Duration kOperatorTakes = base::Seconds(5);  ///< as in refuse_hopeless()
constexpr base::RequestId kSupposed{std::numeric_limits<std::uint64_t>::max()};

/// A request waits for the model as long as this lives; then all is as it was, also what looking for room writes down.
class Supposed {
 public:
  Supposed(Model& m, Request& r, double weight, bool entitled, base::TimePoint now)
      : m_(m),
        r_(r),
        waiting_(m.waiting),
        waits_entitled_(m.waits_entitled),
        waiting_since_(m.waiting_since),
        waits_as_(m.waits_as),
        chance_at_(m.chance_at),
        looked_from_(m.looked_from),
        restores_preferred_(m.restores_preferred),
        paused_(m.paused),
        rate_(m.rate),
        burst_(m.burst) {
    m.queue.push(r, weight);
    m.paused = false;
    m.rate.note(now);
    m.burst.note(now);
    if (m.waiting) return;
    m.waiting = true;
    m.waits_entitled = entitled;
    m.waiting_since = now;
  }
  ~Supposed() {
    m_.queue.remove(r_);
    m_.waiting = waiting_;
    m_.waits_entitled = waits_entitled_;
    m_.waiting_since = waiting_since_;
    m_.waits_as = waits_as_;
    m_.chance_at = chance_at_;
    m_.looked_from = looked_from_;
    m_.restores_preferred = restores_preferred_;
    m_.paused = paused_;
    m_.rate = rate_;
    m_.burst = burst_;
  }
  Supposed(const Supposed&) = delete;
  Supposed& operator=(const Supposed&) = delete;

 private:
  Model& m_;
  Request& r_;
  bool waiting_, waits_entitled_;
  base::TimePoint waiting_since_;
  WaitOrder waits_as_;
  base::TimePoint chance_at_;
  std::size_t looked_from_;
  bool restores_preferred_, paused_;
  ArrivalRate rate_, burst_;
};

/// Those of its tenant that wait for the same model and that it goes before, by its priority.
std::uint32_t overtaken(const Request& r) {
  const auto since = [](const Request& of) { return of.queued_at - level_of(of.priority) * kLevelWaits; };
  std::uint32_t count = 0;
  for (std::size_t lower = 0; lower < static_cast<std::size_t>(r.priority); ++lower)
    for (const Request* other : r.lane->waiting.at(lower)) count += since(*other) >= since(r) ? 1U : 0U;
  return count;
}

std::string place(const Instance& i) {
  std::string text = "instance " + std::to_string(i.id.value()) + " on " + i.device->node.str() + "/";
  for (const Device* d : i.devices) text += (d == i.devices.front() ? "" : "+") + d->info.id.str();
  return text;
}

void stands_on(Explanation& e, const Instance& i) {
  e.instance = i.id;
  e.node = i.device->node;
  for (const Device* d : i.devices) e.devices.push_back(d->info.id);
}

void refused(Explanation& e, const Refuse& refusal) {
  e.prospect = Prospect::refused;
  e.summary = refusal.message;
  e.refusal = to_string(refusal.why);
  e.retry_after = refusal.retry_after;
}

const CostEstimate& cost_of(const Model& m, wire::Way way) {
  switch (way) {
    case wire::Way::wake: return m.costs.wake;
    case wire::Way::restore: return m.costs.restore;
    case wire::Way::start: break;
  }
  return m.costs.start;
}

const char* ways(wire::Way way) {
  switch (way) {
    case wire::Way::wake: return "wakes";
    case wire::Way::restore: return "restores";
    case wire::Way::start: break;
  }
  return "starts";
}

/// "3 starts took 1.2 s on average, the fastest of late 0.9 s"
std::string measured(const CostEstimate& cost, wire::Way way) {
  if (!cost.known()) return std::string("never measured: none of its ") + ways(way) + " has ended yet";
  return std::to_string(cost.samples()) + " " + ways(way) + " took " + format_duration(cost.mean()) + " on average, the fastest of late " +
         format_duration(cost.quickest());
}

void add_first_answer(Explanation& e, const Model& m) {
  const base::Duration takes = m.first_answer.value();
  const bool known = m.first_answer.known();
  e.parts.push_back({"first answer", takes, known,
                     known ? "running mean of this model's answers, from dispatch to the first byte" : "never measured: it has not answered yet"});
}

/// What is left of something that began at `since`.
base::Duration rest_of(base::TimePoint since, base::Duration takes, base::TimePoint now) {
  return std::max(since + takes - now, base::Duration::zero());
}

void wait_for_rising(Explanation& e, const Model& m, base::TimePoint now) {
  const Instance* soonest = nullptr;
  base::Duration least{};
  for (const Instance* i : m.instances) {
    if (!i->rising()) continue;
    const base::Duration left = rest_of(i->phase_since, cost_of(m, i->way).mean(), now);
    if (soonest == nullptr || left < least) soonest = i, least = left;
  }
  e.prospect = Prospect::rising;
  e.way = soonest->way;
  e.why = soonest->reason;
  stands_on(e, *soonest);
  e.summary = place(*soonest) + " is on its way up (" + to_string(soonest->way) + ") for " + format_duration(now - soonest->phase_since) +
              " and would serve it";
  const CostEstimate& cost = cost_of(m, soonest->way);
  e.parts.push_back({to_string(soonest->way), least, cost.known(),
                     measured(cost, soonest->way) + "; it began " + format_duration(now - soonest->phase_since) + " ago"});
}

void wait_for_freeze(Explanation& e, const Model& m, base::TimePoint now) {
  const auto found = std::find_if(m.instances.begin(), m.instances.end(), [](const Instance* i) { return i->phase == Phase::freezing; });
  const Instance& i = **found;
  e.prospect = Prospect::rising;
  e.way = wire::Way::wake;
  stands_on(e, i);
  e.summary = place(i) + " is being frozen; it would be woken as soon as that has ended";
  const CostEstimate& freezes = m.costs.freeze;
  e.parts.push_back({"freeze", rest_of(i.phase_since, freezes.mean(), now), freezes.known(),
                     "freezes of this model take " + format_duration(freezes.mean()) + " on average"});
  e.parts.push_back({"wake", m.costs.wake.mean(), m.costs.wake.known(), measured(m.costs.wake, wire::Way::wake)});
}

/// Behind those that wait already, each of whom takes a slot when one falls free.
void wait_for_slot(Explanation& e, const Model& m) {
  const std::uint64_t slots = std::max<std::uint64_t>(std::uint64_t{m.ready()} * m.spec.scaling.target_concurrency, 1);
  const base::Duration service = m.service.value();
  const bool known = service > base::Duration::zero();
  e.prospect = Prospect::slot;
  e.summary = "its " + std::to_string(m.ready()) + " replica(s) are busy with " + std::to_string(m.in_flight) +
              " requests, and no more are begun for it: it would wait for a slot";
  e.parts.push_back({"slot", service * static_cast<std::int64_t>(e.queued_before + 1) / static_cast<std::int64_t>(slots), known,
                     known ? std::to_string(e.queued_before) + " wait before it for " + std::to_string(slots) + " slots; an answer takes " +
                                 format_duration(service) + " on average"
                           : "never measured: no answer has ended yet"});
}

/// In order of what is nearest. Nothing more is begun for it at present.
void wait_for_what_is_there(Explanation& e, const Model& m, base::TimePoint now) {
  if (m.ready() > 0) return wait_for_slot(e, m);
  if (m.rising() > 0) return wait_for_rising(e, m, now);
  if (m.in(Phase::freezing) > 0) return wait_for_freeze(e, m, now);
  if (m.claimed() == 0 && m.backoff_until > now) {
    e.prospect = Prospect::back_off;
    e.summary = "it does not start; the next try is in " + format_duration(m.backoff_until - now) + ". The last one: " + m.last_failure;
    e.parts.push_back({"back-off", m.backoff_until - now, true, "so long after " + std::to_string(m.failures) + " starts that failed"});
    e.parts.push_back({"start", m.start_cost(), m.costs.start.known(), measured(m.costs.start, wire::Way::start)});
    return;
  }
  e.prospect = Prospect::room;
  e.summary = "a replica begins for it as soon as those have left that make room for it";
  if (!m.claims.empty()) e.node = m.claims.front()->node;
  e.parts.push_back({"room", {}, false, "how long they take is not known"});
}

}  // namespace

const char* to_string(Prospect prospect) {
  switch (prospect) {
    case Prospect::dispatched: return "dispatched";
    case Prospect::slot: return "waits_for_slot";
    case Prospect::rising: return "waits_for_replica";
    case Prospect::way_up: return "begins_replica";
    case Prospect::room: return "waits_for_room";
    case Prospect::back_off: return "waits_for_back_off";
    case Prospect::refused: return "refused";
  }
  return "unknown";
}

/// The way from the decision to the first byte, in the terms in which devices are compared (estimate.cpp).
void Scheduler::State::explain_way_up(Explanation& e, Model& m, const Offer& o, base::TimePoint now) const {
  const Device& d = *o.device;
  const Node& node = *d.owner;
  e.prospect = Prospect::way_up;
  e.node = d.node;
  for (const Device* each : o.devices()) e.devices.push_back(each->info.id);
  if (o.wake != nullptr) {
    e.instance = o.wake->id;
    e.way = wire::Way::wake;
    e.why = why_wake(m.costs, image_for(m, node) != nullptr, read_again(*o.wake));
  } else if (image_for(m, node) != nullptr) {
    ++m.ascents;  // it would count as one before its way is chosen
    const WayAnswer answer = way_up(m);
    --m.ascents;
    e.way = answer.restore ? wire::Way::restore : wire::Way::start;
    e.why = answer.why;
  } else {
    e.way = wire::Way::start;
    e.why = m.fell_back.empty() ? "no replica of it is in standby, and " + d.node.str() + " has no image of it" : m.fell_back;
  }
  base::Duration served{};
  for (const Instance* i : o.victims) {
    e.displaced.push_back({i->id, i->model->spec.name, freezes_to_make_way(*i, now), i->in_flight});
    if (i->in_flight > 0) served = std::max(served, i->model->service.value());
  }
  const std::string device = d.node.str() + "/" + d.info.id.str();
  if (o.rank != Offer::Rank::free) {
    const bool ends = o.rank == Offer::Rank::draining || o.rank == Offer::Rank::evict_busy;
    e.parts.push_back({"room", time_to_make_way(o, now) + served, node.stops.known() && (!ends || served > base::Duration::zero()),
                       o.victims.empty() ? "replicas leave " + device + " already"
                                         : std::to_string(o.victims.size()) + " replica(s) leave " + device +
                                               (ends ? ", once they have ended their requests" : "") + "; stops take " +
                                               format_duration(node.stops.mean()) + " there on average"});
  }
  const bool bus = d.info.kind != spec::DeviceKind::cpu;
  const base::Duration bus_ahead = bus ? std::max(d.bus_busy_until - now, base::Duration::zero()) : base::Duration::zero();
  const base::Duration disk = o.wake != nullptr ? base::Duration::zero() : disk_time(m, node);
  const base::Duration disk_ahead = disk > base::Duration::zero() ? std::max(node.disk_busy_until - now, base::Duration::zero()) + disk : disk;
  if (disk_ahead > base::Duration::zero() && disk_ahead >= bus_ahead) {
    const double rate = node.read_bytes_per_s > 0 ? node.read_bytes_per_s : read_bytes_per_s;
    e.parts.push_back({"disk", disk_ahead, true,
                       base::format_bytes(weights_of(m)) + " of weights that are not in the memory of " + d.node.str() + ", at the " +
                           base::format_bytes(static_cast<std::uint64_t>(rate)) + "/s that starts read with" +
                           (disk_ahead > disk ? "; " + format_duration(disk_ahead - disk) + " of it behind others" : "")});
  } else if (bus_ahead > base::Duration::zero()) {
    e.parts.push_back({"bus", bus_ahead, true, "what others on their way up or down were promised of " + device + "'s bus"});
  }
  const CostEstimate& cost = cost_of(m, *e.way);
  const bool apart = disk_ahead > base::Duration::zero();  // then reading is no part of it
  e.parts.push_back({to_string(*e.way), apart ? cost.quickest() : cost.mean(), cost.known(), measured(cost, *e.way)});
  if (const std::uint32_t others = at_work(d, m); others > 0 && m.first_answer.value() > base::Duration::zero())
    e.parts.push_back({"sharing", others * m.first_answer.value(), true, std::to_string(others) + " other(s) are at work on " + device});
  const char* const verb = *e.way == wire::Way::wake ? "be woken" : *e.way == wire::Way::restore ? "be restored from an image" : "start";
  e.summary = (o.wake != nullptr ? "instance " + std::to_string(o.wake->id.value()) : std::string("a replica")) + " would " + verb + " on " + device;
  if (!o.victims.empty()) e.summary += "; " + std::to_string(o.victims.size()) + " other replica(s) would make room for it";
}

void Scheduler::State::explain_wait(Explanation& e, Model& m, Request& r, base::TimePoint now) {
  const auto spared = std::find_if(m.instances.begin(), m.instances.end(), [&](const Instance* i) {
    return i->phase == Phase::ready && i->drain == Instance::Drain::scaled_down && !i->exclusive && i->in_flight < m.spec.scaling.target_concurrency;
  });
  if (spared != m.instances.end() && e.queued_before == 0 && desired(m) > m.replicas()) {
    e.prospect = Prospect::dispatched;
    stands_on(e, **spared);
    e.summary = place(**spared) + " was about to leave, as it was not needed any more; it would stay and serve it at once";
    return;
  }
  if (missing(m, now) == 0) return wait_for_what_is_there(e, m, now);
  Offer best = best_offer(m, places_for(m), now);
  if (best.rank == Offer::Rank::none) {
    if (const std::string never = m.replicas() == 0 && !can_wake(m) ? why_never(m) : ""; !never.empty())
      return refused(e, {r.id, Refuse::Why::no_capacity, never, std::max(retry_after(m, now), kOperatorTakes)});
    if (m.replicas() > 0) return wait_for_what_is_there(e, m, now);
    const bool known = m.chance_at != base::never();
    e.prospect = Prospect::room;
    e.summary = "other models are busy on its devices: it would wait for its turn";
    e.parts.push_back({"room", known ? std::max(m.chance_at - now, base::Duration::zero()) : base::Duration::zero(), known,
                       known ? "then those that hold its room have had their turn" : "it depends on when others' requests end"});
    e.parts.push_back({"start", m.start_cost(), m.start_cost() > base::Duration::zero(), measured(m.costs.start, wire::Way::start)});
    return;
  }
  if (payer(m, best) != nullptr) return explain_way_up(e, m, best, now);
  if (beyond_quota(*r.account, best))
    return refused(
        e, {r.id,
            Refuse::Why::tenant_quota,
            "a replica of model " + m.name() + " takes more of the devices than tenant " + r.account->policy.tenant.str() + " may hold at once",
            {}});
  e.prospect = Prospect::room;
  e.summary = "tenant " + r.account->policy.tenant.str() + " holds all the devices that it may hold at once: it would wait until it holds fewer";
  e.parts.push_back({"room", {}, false, "it depends on when the tenant's other requests end"});
}

Explanation Scheduler::State::explain(const base::ModelName& name, const base::TenantName& asker, std::optional<spec::Priority> asked,
                                      base::TimePoint now) {
  Model& m = *models.at(name);
  Explanation e;
  e.queued_before = m.waiting_requests();
  e.refused_after = m.spec.scaling.queue.timeout;
  Tenant unheard_of;
  unheard_of.policy.tenant = asker;
  const auto found = tenants.find(asker);
  Tenant& whose = found == tenants.end() ? unheard_of : *found->second;
  e.priority = priority_of(asked, whose.policy.max_priority, m.spec.priority);
  if (draining) {
    refused(e, {kSupposed, Refuse::Why::draining, "the server is shutting down; retry in a moment", base::Seconds(5)});
    return e;
  }
  if (whose.exhausted && now < whose.day_ends) {
    refused(e, exhausted_refusal(kSupposed, whose, now));
    return e;
  }
  if (const Instance* const i = m.queue.empty() ? pick_slot(m, 0, kSupposed, false, now) : nullptr) {
    e.prospect = Prospect::dispatched;
    stands_on(e, *i);
    e.summary = place(*i) + " has a free slot: it would be sent there at once";
  } else if (const auto refusal = refusal_at_the_door(m, kSupposed, now)) {
    refused(e, *refusal);
  } else {
    Request r;
    r.id = kSupposed;
    r.tenant = asker;
    r.account = &whose;
    r.model = &m;
    r.queued_at = now;
    r.deadline = now + m.spec.scaling.queue.timeout;
    r.priority = e.priority;
    const bool waits = m.waiting;
    const std::uint64_t next = next_waiter;
    const ActiveTotals looked_up = active_totals;  // anew only every so often: not at another time because somebody asks
    {
      const Supposed supposed(m, r, whose.policy.weight, entitled(m), now);
      e.queued_before -= overtaken(r);
      if (!waits || m.waits_with < m.priority()) m.waits_as = place_of(m, now);
      explain_wait(e, m, r, now);
    }
    next_waiter = next;
    active_totals = looked_up;
  }
  if (e.prospect == Prospect::refused) return e;
  add_first_answer(e, m);
  for (const EstimatedPart& part : e.parts) {
    e.first_token += part.takes;
    e.at_least = e.at_least || !part.known;
  }
  return e;
}

Explanation Scheduler::explain(const base::ModelName& model, const base::TenantName& asker, std::optional<spec::Priority> priority,
                               base::TimePoint now) const {
  return state_->explain(model, asker, priority, now);
}

}  // namespace thaw::control
