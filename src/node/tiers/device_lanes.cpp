#include "node/tiers/device_lanes.h"

#include <algorithm>

#include "node/sandbox/clock.h"

namespace thaw::node {
namespace {

constexpr base::Duration kLongest = std::chrono::hours(24);  // a deadline that is never would overflow a wait

}  // namespace

DeviceLanes::~DeviceLanes() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (auto& [device, lane] : lanes_)
    for (std::thread& thread : lane.threads) thread.join();
}

void DeviceLanes::serve(Lane& lane) {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return closing_ || !lane.waiting.empty(); });
    if (lane.waiting.empty()) return;
    const std::shared_ptr<Work> work = std::move(lane.waiting.front());
    lane.waiting.pop_front();
    work->state = Work::State::running;
    ++running_[work->instance];
    lock.unlock();
    base::Status status = work->run();
    lock.lock();
    work->status = std::move(status);
    work->state = Work::State::done;
    if (--running_[work->instance] == 0) running_.erase(work->instance);
    changed_.notify_all();
  }
}

DeviceLanes::Ran DeviceLanes::run(const base::DeviceId& device, base::InstanceId instance, const TierCall& call,
                                  std::function<base::Status()> work) {
  auto asked = std::make_shared<Work>();
  asked->instance = instance;
  asked->run = std::move(work);
  std::unique_lock lock(mutex_);
  Lane& lane = lanes_[device];
  if (lane.threads.empty())
    for (unsigned i = 0; i < per_device_; ++i) lane.threads.emplace_back([this, &lane] { serve(lane); });
  lane.waiting.push_back(asked);
  changed_.notify_all();
  changed_.wait_for(lock, call.stop, std::min(call.left(), kLongest),
                    [&] { return asked->state == Work::State::done; });
  if (asked->state == Work::State::done) return {asked->status, false};
  if (asked->state == Work::State::waiting) std::erase(lane.waiting, asked);
  base::Status cut = call.go_on();
  if (cut.ok()) cut = base::Error{base::ErrorKind::timeout, "the device's driver did not answer by the deadline"};
  return {std::move(cut), asked->state == Work::State::running};
}

bool DeviceLanes::wait_idle(base::InstanceId instance, base::TimePoint deadline) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::max<base::Duration>(deadline - now(), base::Duration::zero()),
                           [&] { return !running_.contains(instance); });
}

}  // namespace thaw::node
