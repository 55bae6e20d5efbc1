#include "scale/fleet.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace thaw::bench {

namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint32_t kDevicesOfNode = 8;
constexpr std::uint32_t kTenants = 100;

control::Policy policy_of(const Setting& setting) {
  control::Policy policy;
  policy.automatic_idle = setting.automatic_idle;
  policy.look_everywhere_up_to = setting.look_everywhere_up_to;
  return policy;
}

/// 6 to 72 GiB of a device, most of them small.
std::uint64_t bytes_of(std::uint32_t model) {
  constexpr std::uint64_t kSizes[] = {6, 10, 10, 16, 16, 16, 24, 24, 40, 72};
  return kSizes[(model * 2'654'435'761ULL >> 8) % std::size(kSizes)] * kGiB;
}

spec::ModelSpec spec_of(std::uint32_t model) {
  spec::ModelSpec spec;
  spec.name = base::ModelName("m" + std::to_string(model));
  spec.source.path = "/models/" + std::to_string(model) + ".gguf";
  spec.resources.device = spec::DeviceKind::cuda;
  spec.resources.device_memory_bytes = bytes_of(model);
  spec.scaling.max_replicas = 64;
  spec.scaling.target_concurrency = 8;
  return spec;
}

wire::NodeHello hello_of(std::uint32_t node, std::uint32_t devices) {
  wire::NodeHello hello;
  hello.node = base::NodeName("node" + std::to_string(node));
  for (std::uint32_t n = 0; n < devices; ++n)
    hello.devices.push_back({base::DeviceId("cuda" + std::to_string(n)), spec::DeviceKind::cuda, "simulated", "", 80 * kGiB, 78 * kGiB});
  hello.drivers.push_back({wire::DriverKind::cuda, spec::DeviceKind::cuda, true, false, ""});
  hello.drivers.push_back({wire::DriverKind::criu, spec::DeviceKind::cuda, false, true, ""});
  hello.host_budget_bytes = 700 * kGiB;
  hello.image_budget_bytes = 2048 * kGiB;
  return hello;
}

std::uint32_t node_number(const base::NodeName& name) { return static_cast<std::uint32_t>(std::stoul(name.str().substr(4))); }

}  // namespace

ScaleFleet::ScaleFleet(const Setting& setting) : setting_(setting), scheduler_(policy_of(setting)), state_(setting.seed) {}

// --- chance

std::uint64_t ScaleFleet::dice() {
  state_ += 0x9e3779b97f4a7c15ULL;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

double ScaleFleet::uniform() { return static_cast<double>(dice() >> 11) * 0x1.0p-53; }

double ScaleFleet::exponential(double mean) { return -mean * std::log1p(-uniform()); }

std::uint32_t ScaleFleet::pick_model() {
  const double at = uniform() * popularity_.back();
  const auto rank = static_cast<std::uint64_t>(std::lower_bound(popularity_.begin(), popularity_.end(), at) - popularity_.begin());
  return static_cast<std::uint32_t>(rank * 7'919 % setting_.models);  // popular ones are of every size
}

// --- time

void ScaleFleet::later(double seconds, Kind kind, std::uint64_t id) {
  const auto ns = static_cast<std::int64_t>(seconds * 1e9);
  events_.push({now_.time_since_epoch().count() + ns, planned_++, id, kind});
}

template <typename Call>
void ScaleFleet::call(const char* event, Call&& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  const auto took = std::chrono::steady_clock::now() - begin;
  if (measuring_) latencies_[event].note(static_cast<std::uint64_t>(std::chrono::nanoseconds(took).count()));
  carry_out();
}

void ScaleFleet::run() {
  popularity_.reserve(setting_.models);
  double sum = 0;
  for (std::uint32_t n = 0; n < setting_.models; ++n) popularity_.push_back(sum += std::pow(n + 1, -setting_.zipf));
  measuring_ = true;
  for (std::uint32_t n = 0, left = setting_.devices; left > 0; ++n) {
    const std::uint32_t here = std::min(left, kDevicesOfNode);
    left -= here;
    call("node joins", [&] { scheduler_.node_joined(hello_of(n, here), now_, actions_); });
  }
  for (std::uint32_t n = 0; n < setting_.models + setting_.asleep; ++n) {
    const spec::ModelSpec spec = spec_of(n);
    model_of_.emplace(spec.name.str(), n);
    call("model deployed", [&] { scheduler_.model_deployed(spec, now_, actions_); });
  }
  measuring_ = false;
  later(0, Kind::arrival, 0);
  const base::TimePoint measured_from = now_ + setting_.warm_up, end = measured_from + setting_.measured;
  while (now_ < end) {
    measuring_ = now_ >= measured_from;
    step();
  }
}

void ScaleFleet::step() {
  const base::TimePoint tick = scheduler_.next_tick();
  const base::TimePoint event = base::TimePoint(base::Duration(events_.top().at_ns));
  if (tick < event) {
    now_ = std::max(now_, tick);
    return call("timer", [&] { scheduler_.tick(now_, actions_); });
  }
  const Event e = events_.top();
  events_.pop();
  now_ = std::max(now_, event);
  if (e.kind == Kind::arrival) return arrive();
  const base::RequestId request(e.id);
  switch (e.kind) {
    case Kind::answering:
      if (running_.count(e.id) > 0) call("answer begins", [&] { scheduler_.request_answering(request, now_); });
      return;
    case Kind::end: {
      const auto found = running_.find(e.id);
      if (found == running_.end()) return;
      if (const auto on = replicas_.find(found->second); on != replicas_.end()) std::erase(on->second.requests, e.id);
      running_.erase(found);
      ++answered_;
      return call("answer ends", [&] { scheduler_.request_ended(request, now_, actions_); });
    }
    case Kind::fail: {
      if (running_.erase(e.id) == 0) return;
      return call("request fails", [&] { scheduler_.request_failed(request, control::RequestFailure::connect, now_, actions_); });
    }
    case Kind::image_gone:
      if (dropped_.empty()) return;
      {
        const wire::ImageGone gone{dropped_.back(), 0, "dropped"};
        dropped_.pop_back();
        return call("image gone", [&] { scheduler_.image_gone(gone, now_, actions_); });
      }
    default: break;
  }
  const std::uint64_t id = e.id >> 16;
  const auto found = replicas_.find(id);
  if (found == replicas_.end()) return;
  Replica& r = found->second;
  const base::InstanceId instance(id);
  if (e.kind == Kind::gone) {
    replicas_.erase(found);
    return call("instance gone", [&] { scheduler_.instance_gone({instance}, now_, actions_); });
  }
  if (r.stopping || (r.turn & 0xffff) != (e.id & 0xffff)) return;
  switch (e.kind) {
    case Kind::ready: {
      const wire::InstanceReady ready{instance, "", {}, r.way, "", 0, true};
      if (dice() % 500 == 0) later(exponential(60), Kind::crash, e.id);
      return call("instance ready", [&] { scheduler_.instance_ready(ready, now_, actions_); });
    }
    case Kind::start_failed: return lose(id, true);
    case Kind::crash: return lose(id, true);
    case Kind::standby: {
      const wire::InstanceStandby standby{instance, wire::DriverKind::cuda, bytes_of(r.model) / 2, 0, {}};
      return call("in standby", [&] { scheduler_.instance_standby(standby, now_, actions_); });
    }
    case Kind::taken: {
      const wire::ImageInfo image{r.image, base::ModelName("m" + std::to_string(r.model)),
                                  wire::DriverKind::criu, kGiB, bytes_of(r.model), 0};
      r.stopping = true;
      later(0.5, Kind::gone, e.id);
      return call("image taken", [&] { scheduler_.snapshot_taken({instance, image, {}}, now_, actions_); });
    }
    default: return;
  }
}

void ScaleFleet::arrive() {
  later(exponential(1 / setting_.requests_per_s), Kind::arrival, 0);
  const control::Arrival arrival{base::RequestId(next_request_++), base::ModelName("m" + std::to_string(pick_model())),
                                 base::TenantName("t" + std::to_string(dice() % kTenants))};
  call("request arrives", [&] { scheduler_.request_arrived(arrival, now_, actions_); });
}

/// Its process is dead; its requests fail a little later, as their connections break.
void ScaleFleet::lose(std::uint64_t id, bool tell) {
  Replica& r = replicas_.at(id);
  r.stopping = true;
  for (const std::uint64_t request : r.requests) later(0.001, Kind::fail, request);
  r.requests.clear();
  later(0.5, Kind::gone, id << 16 | (r.turn & 0xffff));
  if (!tell) return;
  const wire::InstanceDown down{base::InstanceId(id), wire::DownReason::crashed, "exit status 1", ""};
  call("instance down", [&] { scheduler_.instance_down(down, now_, actions_); });
}

// --- what the scheduler orders

void ScaleFleet::note(std::uint64_t what) { fingerprint_ = (fingerprint_ ^ what) * 0x100000001b3ULL; }

void ScaleFleet::carry_out() {
  control::Actions now;
  now.swap(actions_);
  for (const control::Action& action : now) std::visit([this](const auto& a) { on(a); }, action);
  if (actions_.empty()) {
    now.clear();
    actions_.swap(now);
  }
}

void ScaleFleet::on(const control::Start& a) {
  ++starts_;
  const std::uint64_t id = a.command.instance.value();
  Replica& r = replicas_[id];
  r.model = model_of_.at(a.command.model.name.str());
  r.node = node_number(a.node);
  r.way = a.command.image.empty() ? wire::Way::start : wire::Way::restore;
  note(id * 31 + r.node);
  const double takes = r.way == wire::Way::restore ? 1 + 2 * uniform() : 20 + 20 * uniform();
  later(takes, dice() % 500 == 0 ? Kind::start_failed : Kind::ready, id << 16);
}

void ScaleFleet::on(const control::Stop& a) {
  note(a.instance.value() * 37);
  Replica& r = replicas_.at(a.instance.value());
  if (r.stopping) return;
  r.stopping = true;
  later(0.3 + 0.4 * uniform(), Kind::gone, a.instance.value() << 16);
}

void ScaleFleet::on(const control::Dispatch& a) {
  note(a.request.value() * 41 + a.instance.value());
  if (a.cold) ++cold_;
  const std::uint64_t request = a.request.value();
  Replica& r = replicas_.at(a.instance.value());
  running_[request] = a.instance.value();
  if (r.stopping) return later(0.001, Kind::fail, request);  // it died in this moment
  r.requests.push_back(request);
  later(0.1 + 0.2 * uniform(), Kind::answering, request);
  later(0.3 + (dice() % 200 == 0 ? 0 : exponential(setting_.service_s - 0.3)), Kind::end, request);
}

void ScaleFleet::on(const control::Refuse& a) {
  note(a.request.value() * 43);
  ++refused_;
}

void ScaleFleet::on(const control::Freeze& a) {
  const std::uint64_t id = a.command.instance.value();
  note(id * 47);
  Replica& r = replicas_.at(id);
  later(0.2 + 0.6 * uniform(), Kind::standby, id << 16 | (++r.turn & 0xffff));
}

void ScaleFleet::on(const control::Wake& a) {
  ++wakes_;
  const std::uint64_t id = a.command.instance.value();
  note(id * 53);
  Replica& r = replicas_.at(id);
  r.way = wire::Way::wake;
  later(0.3 + 0.7 * uniform(), Kind::ready, id << 16 | (++r.turn & 0xffff));
}

void ScaleFleet::on(const control::Snapshot& a) {
  const std::uint64_t id = a.command.instance.value();
  note(id * 59);
  Replica& r = replicas_[id];
  r.model = model_of_.at(a.command.model.name.str());
  r.node = node_number(a.node);
  r.image = a.command.image;
  later(30 + 10 * uniform(), Kind::taken, id << 16);
}

void ScaleFleet::on(const control::Drop& a) {
  dropped_.push_back(a.command.image);
  later(0.1, Kind::image_gone, 0);
}

}  // namespace thaw::bench
