// Whose time on the devices it is. An instance counts as the tenant's who last sent it a request, or for whom it was begun. While it serves, each request
// has an equal part of its time: Instance::given grows by what each of them gets, so that a request's part is a difference of two of its values, whatever
// came and went meanwhile. While it serves nobody, its time is its tenant's.
#include <algorithm>
#include <cmath>

#include "base/units.h"
#include "control/state.h"

namespace thaw::control {

namespace {

constexpr base::Duration kDay = std::chrono::hours(24);
constexpr base::Duration kLookEvery = base::Seconds(10);
constexpr base::Duration kLately = base::Seconds(120);  ///< half-life
constexpr double kNothing = 1e-6;                       ///< devices; less is rounding

bool within(double value, double least, double most) { return value >= least && value <= most; }

std::string plain(double value) {
  std::string text = std::to_string(std::round(value * 100) / 100);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace

Tenant& Scheduler::State::tenant(const base::TenantName& name) {
  std::unique_ptr<Tenant>& place = tenants[name];
  if (place == nullptr) {
    place = std::make_unique<Tenant>();
    place->policy.tenant = name;
  }
  return *place;
}

base::Status Scheduler::State::set_tenant(const TenantPolicy& said, base::TimePoint now, Actions& out) {
  const std::string subject = "tenant " + said.tenant.str() + ": ";
  const auto refuse = [&](const std::string& why) { return base::Error{base::ErrorKind::invalid, subject + why}; };
  if (said.tenant.empty()) return base::Error{base::ErrorKind::invalid, "a tenant needs a name"};
  if (!within(said.weight, kMinTenantWeight, kMaxTenantWeight)) return refuse("its weight must be 0.01 to 1,000");
  if (said.max_devices && !(within(*said.max_devices, 0, kMaxTenantDevices) && *said.max_devices > 0))
    return refuse("the most devices that it may hold must be above 0 and at most 1,000,000");
  if (said.max_device_seconds_per_day && !within(*said.max_device_seconds_per_day, 1e-3, 1e15))
    return refuse("the device-seconds that it may have a day must be above 0");
  if (!within(said.used_today_device_seconds, 0, 1e15)) return refuse("what it used today must not be negative");
  Tenant& t = tenant(said.tenant);
  t.policy = said;
  const bool first = t.day_ends == base::never();
  if (first || said.day_ends > now) t.day_ends = said.day_ends > now ? said.day_ends : now + kDay;
  if (first) t.today += said.used_today_device_seconds;
  t.exhausted = false;
  charge(t, &DeviceSeconds::moving, 0, now);
  keep_to_quota(t, 0, nullptr, now, out);
  for (const auto& [place, m] : waiters) {
    look_everywhere(*m);
    touch(*m);
  }
  work(now, out);
  return {};
}

void Scheduler::State::forget_tenant(const base::TenantName& name, base::TimePoint now, Actions& out) {
  const auto found = tenants.find(name);
  if (found == tenants.end()) return;
  Tenant& t = *found->second;
  t.policy = TenantPolicy{};
  t.policy.tenant = name;
  t.exhausted = false;
  for (const auto& [place, m] : waiters) {
    look_everywhere(*m);
    touch(*m);
  }
  work(now, out);
}

/// In whole devices: by how much of their memory it holds.
double Scheduler::State::held_devices(const Instance& i) {
  double sum = 0;
  for (const Device* d : i.devices) sum += static_cast<double>(i.bytes) / static_cast<double>(std::max<std::uint64_t>(d->info.budget_bytes, 1));
  return sum;
}

double Scheduler::State::claimed_devices(const Device& d, const Device::Claim& claim) {
  return static_cast<double>(claim.bytes) / static_cast<double>(std::max<std::uint64_t>(d.info.budget_bytes, 1));
}

double Scheduler::State::lately(const Tenant& t, base::TimePoint now) const {
  const double age = base::to_s(now - t.lately_at) / base::to_s(kLately);
  return t.devices + (t.lately - t.devices) * std::exp2(-age);
}

/// So many devices more (or fewer) are its from now on.
void Scheduler::State::hold_for(Tenant& t, double more, base::TimePoint now) {
  t.lately = lately(t, now);
  t.lately_at = now;
  t.devices = std::max(t.devices + more, 0.0);
  if (t.devices < kNothing) t.devices = 0;
  if (t.devices <= 0 || t.active) return;
  constexpr double kForgotten = 1e-3;
  constexpr std::size_t kFew = 64;
  if (active.size() >= kFew && active.size() >= 2 * active_kept) {  // those that hold nothing any more, and long have not
    std::erase_if(active, [&](Tenant* other) {
      other->active = other->devices > 0 || lately(*other, now) >= kForgotten;
      return !other->active;
    });
    active_kept = active.size();
  }
  t.active = true;
  active.push_back(&t);
}

void Scheduler::State::charge(Tenant& t, double DeviceSeconds::*what, double device_seconds, base::TimePoint now) {
  t.used.*what += device_seconds;
  if (t.day_ends == base::never()) return;
  begin_day(t, now);
  t.today += device_seconds;
  if (!t.policy.max_device_seconds_per_day) return;
  const bool was = t.exhausted;
  t.exhausted = t.today >= *t.policy.max_device_seconds_per_day;
  if (t.exhausted && !was) timers.arm_at_latest(accounts_timer, now + base::Millis(1));  // those who wait are told
  else if (!t.exhausted && t.devices > 0) timers.arm_at_latest(accounts_timer, now + kLookEvery);
}

void Scheduler::State::begin_day(Tenant& t, base::TimePoint now) const {
  if (now < t.day_ends) return;
  t.today = 0;
  t.exhausted = false;
  t.day_ends += kDay * ((now - t.day_ends) / kDay + 1);
}

/// Its time up to now, for what it did.
void Scheduler::State::bill(Instance& i, base::TimePoint now) {
  const double device_seconds = held_devices(i) * base::to_s(std::max(now - i.billed_at, base::Duration::zero()));
  i.billed_at = now;
  if (i.in_flight > 0) {
    i.given += device_seconds / i.in_flight;
  } else if (i.tenant != nullptr) {
    const bool rests = i.phase == Phase::ready || i.phase == Phase::standby;
    charge(*i.tenant, rests ? &DeviceSeconds::idle : &DeviceSeconds::moving, device_seconds, now);
  }
}

/// Its part since it was last billed.
void Scheduler::State::bill(Request& r, base::TimePoint now) {
  Instance& i = *r.instance;
  bill(i, now);
  const double part = i.given - r.billed_from;
  r.billed_from = i.given;
  r.device_seconds += part;
  charge(*r.account, &DeviceSeconds::busy, part, now);
}

/// From now on it counts as `t`'s; null: as nobody's.
void Scheduler::State::give_to(Instance& i, Tenant* t, base::TimePoint now) {
  if (i.tenant == t) return;
  const double held = held_devices(i);
  if (i.tenant != nullptr) {
    hold_for(*i.tenant, -held, now);
    i.tenant->instances.erase(i.id);
  }
  i.tenant = t;
  if (t == nullptr) return;
  hold_for(*t, held, now);
  t->instances.emplace(i.id, &i);
}

/// It is sent a request of that tenant's: it is its from now on, as long as that may hold so much.
void Scheduler::State::used_by(Instance& i, Tenant& t, base::TimePoint now) {
  if (i.tenant != &t && within_quota(t, held_devices(i))) give_to(i, &t, now);
}

/// Whether it has had what it may have today.
bool Scheduler::State::exhausted(Tenant& t, base::TimePoint now) const {
  if (t.exhausted) begin_day(t, now);
  return t.exhausted;
}

Refuse Scheduler::State::exhausted_refusal(base::RequestId request, const Tenant& t, base::TimePoint now) {
  constexpr base::Duration kMostThatClientsHonour = base::Seconds(60);
  return {request, Refuse::Why::tenant_quota,
          "tenant " + t.policy.tenant.str() + " has used the " + plain(t.policy.max_device_seconds_per_day.value_or(0)) +
              " device-seconds that it may have a day; the next day begins in " + base::format_duration(t.day_ends - now) +
              ", or ask whoever runs this server for more",
          t.day_ends - now > kMostThatClientsHonour ? base::Duration::zero() : std::max<base::Duration>(t.day_ends - now, base::Seconds(1))};
}

/// What is under way is billed, so that who has had enough is known before it ends; those who wait for such a tenant are refused.
void Scheduler::State::look_at_accounts(base::TimePoint now, Actions& out) {
  std::vector<base::RequestId> running, waiting;
  for (auto& [id, r] : requests) (r.instance != nullptr ? running : waiting).push_back(id);
  std::sort(running.begin(), running.end());
  for (const base::RequestId id : running) bill(requests.at(id), now);
  bool counts = false;
  for (const auto& [name, t] : tenants) {
    for (const auto& [id, i] : std::map(t->instances)) bill(*i, now);
    counts = counts || (t->policy.max_device_seconds_per_day && !t->exhausted && t->devices > 0);
  }
  std::sort(waiting.begin(), waiting.end());
  for (const base::RequestId id : waiting) {
    Request& r = requests.at(id);
    if (!exhausted(*r.account, now)) continue;
    Model& m = *r.model;
    m.queue.remove(r);
    touch(m);
    Refuse refusal = exhausted_refusal(id, *r.account, now);
    refuse(r, refusal.why, std::move(refusal.message), refusal.retry_after, out);
  }
  timers.arm(accounts_timer, counts ? now + kLookEvery : base::never());
}

}  // namespace thaw::control
