#include "unit/control/world.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/units.h"
#include "unit/control/describe.h"

namespace thaw::control::test {

std::uint64_t Dice::next() {
  std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31U);
}

base::Duration Dice::between(base::Duration low, base::Duration high) {
  return low + base::Duration(static_cast<std::int64_t>(below(static_cast<std::uint64_t>((high - low).count()) + 1)));
}

World::World(std::uint64_t seed, const Policy& policy, const Mix& mix) : mix_(mix), dice_(seed), scheduler_(policy) {
  const unsigned nodes = 1 + static_cast<unsigned>(dice_.below(2));
  for (unsigned n = 0; n < nodes; ++n) hello(n);
  for (unsigned n = 0; mix.shares && n < 3; ++n) {
    TenantPolicy tenant;
    tenant.tenant = base::TenantName("tenant" + std::to_string(n));
    tenant.weight = 0.5 + static_cast<double>(dice_.below(8)) / 2;
    if (dice_.chance(50)) tenant.max_devices = 0.3 + static_cast<double>(dice_.below(20)) / 10;
    call("tenant", [&](Actions& out) {
      if (!scheduler_.set_tenant(tenant, now_, out).ok()) broken("a sensible policy is refused");
    });
  }
  const unsigned models = 2 + static_cast<unsigned>(dice_.below(5));
  for (unsigned n = 0; n < models; ++n) deploy("m" + std::to_string(n));
}

void World::live(unsigned arrivals) {
  base::Duration when{};
  for (unsigned n = 0; n < arrivals; ++n) {
    when += dice_.chance(50) ? base::Duration(base::Millis(1)) : dice_.between(base::Millis(1), base::Millis(2000));
    at(when, [this] { arrive(); });
    if (dice_.chance(6)) at(when, [this] { operate(); });
  }
  at(when, [this] {
    quiet_ = true;
    for (const auto& [name, spec] : std::map(models_)) {
      spec::ModelSpec sleepy = spec;
      sleepy.scaling.min_replicas = 0;
      models_[name] = sleepy;
      call("deploy " + spec.name.str(), [&](Actions& out) { scheduler_.model_deployed(sleepy, now_, out); });
    }
  });
  constexpr unsigned kMaxSteps = 200'000;
  for (unsigned steps = 0; !events_.empty() || scheduler_.next_tick() != base::never(); ++steps) {
    if (steps == kMaxSteps) broken("it does not come to rest");
    step();
  }
  check_rest();
}

void World::at(base::Duration delay, std::function<void()> act) { events_.emplace(now_ + delay, std::move(act)); }

void World::step() {
  const base::TimePoint tick = scheduler_.next_tick();
  if (events_.empty() || tick <= events_.begin()->first) {
    now_ = std::max(now_, tick);
    account();
    call("tick", [&](Actions& out) { scheduler_.tick(now_, out); });
    return;
  }
  now_ = events_.begin()->first;
  account();
  const std::function<void()> act = std::move(events_.begin()->second);
  events_.erase(events_.begin());
  act();
}

void World::call(const std::string& name, const std::function<void(Actions&)>& event) {
  note(name);
  Actions out;
  tick_may_be_due_ = false;
  std::set<base::InstanceId> leaving;
  for (const InstanceView& v : scheduler_.instances()) {
    if (v.state == InstanceState::stopping) leaving.insert(v.instance);
  }
  event(out);
  for (const InstanceView& v : scheduler_.instances()) {
    if (v.state != InstanceState::stopping) leaving.erase(v.instance);  // it may stay after all
  }
  carry_out(out);
  for (const Action& action : out) {
    const auto* const dispatch = std::get_if<Dispatch>(&action);
    if (dispatch != nullptr && leaving.count(dispatch->instance) > 0) broken("dispatch to an instance that is leaving");
  }
  check();
}

void World::note(const std::string& line) {
  constexpr std::size_t kMaxLines = 60;
  history_.push_back(base::format_duration(now_.time_since_epoch()) + " " + line);
  if (history_.size() > kMaxLines) history_.pop_front();
}

void World::carry_out(const Actions& actions) {
  for (const Action& action : actions) {
    fingerprint_ = (fingerprint_ ^ static_cast<std::uint64_t>(now_.time_since_epoch().count())) * 0x100000001B3U + action.index();
    note("  -> " + describe(action));
    std::visit([this](const auto& a) { on(a); }, action);
  }
}

void World::broken(const std::string& what) const {
  std::string last;
  for (const std::string& line : history_) last += "\n  " + line;
  for (const InstanceView& v : scheduler_.instances()) {
    last += "\n  instance " + text(v.instance) + " " + v.model.str() + " " + to_string(v.state) + " on " + v.device.str() + ", " +
            std::to_string(v.device_bytes) + " bytes, in flight " + std::to_string(v.in_flight) + ": " + v.reason;
  }
  throw std::runtime_error("after " + base::format_duration(now_.time_since_epoch()) + ": " + what + last);
}

void World::account() {
  const double passed_s = base::to_s(now_ - accounted_at_);
  accounted_at_ = now_;
  if (!mix_.shares) return;
  for (const auto& [id, i] : instances_) {
    for (const std::string& device : i.devices)
      held_device_s_ += passed_s * static_cast<double>(i.bytes) / static_cast<double>(devices_.at(device).budget_bytes);
  }
}

/// Nobody holds more than it may, and every second of a device is on one account.
void World::check_accounts() const {
  constexpr double kRounding = 1e-5;
  double used = 0;
  for (const TenantView& v : scheduler_.tenants(now_)) {
    if (v.policy.max_devices && v.devices > *v.policy.max_devices + kRounding) broken("tenant " + v.policy.tenant.str() + " holds more than it may");
    used += v.used.all();
  }
  if (std::abs(used - held_device_s_) > kRounding * (1 + held_device_s_))
    broken("accounts have " + std::to_string(used) + " device-seconds, and " + std::to_string(held_device_s_) + " were held");
}

void World::check() const {
  check_tiers();
  if (mix_.shares) check_accounts();
  std::map<std::string, std::uint64_t> held;
  std::size_t running = 0;
  for (const auto& [id, i] : instances_) {
    for (const std::string& device : i.devices) held[device] += i.bytes;
  }
  for (const DeviceView& d : scheduler_.devices()) {
    const std::string key = d.node.str() + "/" + d.info.id.str();
    if (d.reserved_bytes != held[key]) broken(key + ": reserved is not the sum of its instances");
    if (d.reserved_bytes > d.info.budget_bytes) broken(key + ": over its budget");
  }
  for (const auto& [id, r] : requests_) {
    if (r.state == Request::State::running) ++running;
    if (r.state == Request::State::waiting && r.deadline < now_) broken("a request waits beyond its deadline");
  }
  if (scheduler_.requests_in_flight() != running) broken("requests_in_flight differs");
  if (!tick_may_be_due_ && scheduler_.next_tick() <= now_) broken("a tick is due at once");
  std::set<base::ModelName> free_slot;
  for (const InstanceView& v : scheduler_.instances()) {
    const auto found = instances_.find(v.instance);
    if (found == instances_.end()) broken("an instance that is gone is shown");
    if (v.in_flight != found->second.in_flight.size()) broken("in_flight of an instance differs");
    if (v.state == InstanceState::ready && !found->second.said_ready) broken("shown ready but never was");
    if (v.state == InstanceState::ready && v.in_flight < found->second.target) free_slot.insert(v.model);
  }
  for (const auto& [id, r] : requests_) {
    if (r.state != Request::State::waiting) continue;
    const bool lone = std::any_of(requests_.begin(), requests_.end(), [&](const auto& other) {
      return other.second.retried && !other.second.answering && other.second.model == r.model;
    });
    if (!lone && !tick_may_be_due_ && free_slot.count(r.model) > 0) broken("a request waits beside a free slot");
  }
  if (!instances_.empty()) return;
  for (const ModelView& m : scheduler_.models()) {
    if (m.queued > 0 && m.backoff_until <= now_) broken("nothing is done about a waiting request");
  }
}

void World::check_rest() const {
  if (!requests_.empty()) broken("a request was never answered");
  if (!instances_.empty()) broken("an instance is left");
  if (!scheduler_.instances().empty()) broken("the scheduler still knows an instance");
  for (const ModelView& m : scheduler_.models()) {
    if (m.queued + m.in_flight + m.ready + m.starting + m.stopping + m.freezing + m.standby + m.waking != 0) broken("model " + m.model.str() + " is not asleep");
  }
}

}  // namespace thaw::control::test
