#include "node/weights/host_cache.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>

#include <spdlog/spdlog.h>

#include "node/sandbox/clock.h"
#include "node/sandbox/fd.h"
#include "node/weights/page_out.h"
#include "node/weights/residency.h"
#include "node/weights/source_files.h"

namespace thaw::node {
namespace {

constexpr double kNewRate = 0.3;  // weight of the latest measurement

}  // namespace

HostCache::HostCache(base::NodeName node, Sink sink)
    : node_(std::move(node)), sink_(std::move(sink)), thread_([this] { work(); }) {}

HostCache::~HostCache() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void HostCache::submit(wire::LookAtWeights order) {
  push(std::move(order));
}
void HostCache::submit(wire::EvictWeights order) {
  push(std::move(order));
}

void HostCache::push(Order order) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() >= kMaxWaiting) return;
    waiting_.push_back(std::move(order));
  }
  changed_.notify_one();
}

void HostCache::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (ending_) return;
    const Order order = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    if (const auto* look = std::get_if<wire::LookAtWeights>(&order))
      sink_(state_of(look->source));
    else
      sink_(carry_out(std::get<wire::EvictWeights>(order)));
    lock.lock();
  }
}

void HostCache::instance_started(base::InstanceId instance, const std::string& source) {
  const std::lock_guard lock(mutex_);
  users_.insert_or_assign(instance, User{source});
}

void HostCache::instance_copied(base::InstanceId instance) {
  const std::lock_guard lock(mutex_);
  if (const auto user = users_.find(instance); user != users_.end()) user->second.copied = true;
}

void HostCache::instance_gone(base::InstanceId instance) {
  const std::lock_guard lock(mutex_);
  users_.erase(instance);
}

std::optional<std::size_t> HostCache::copies(const std::string& source) const {
  const std::lock_guard lock(mutex_);
  std::size_t copies = 0;
  for (const auto& [instance, user] : users_) {
    if (user.source != source) continue;
    if (!user.copied) return std::nullopt;
    ++copies;
  }
  return copies;
}

void HostCache::note_read(const std::string& file, double bytes_per_s) {
  struct stat status {};
  if (bytes_per_s <= 0 || ::stat(file.c_str(), &status) != 0) return;
  const std::lock_guard lock(mutex_);
  const auto [rate, first] = read_bytes_per_s_.try_emplace(status.st_dev, bytes_per_s);
  if (!first) rate->second += kNewRate * (bytes_per_s - rate->second);
}

wire::WeightsState HostCache::state_of(const std::string& source) const {
  wire::WeightsState state;
  state.node = node_;
  state.source = source;
  for (const std::string& path : source_files(source)) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    const auto bytes = static_cast<std::uint64_t>(status.st_size);
    const auto resident = resident_bytes(fd.get(), 0, bytes);
    state.weights_bytes += bytes;
    state.resident_bytes += resident.value_or(0);
    state.resident_known = state.resident_known && resident.has_value();
    const std::lock_guard lock(mutex_);
    if (const auto rate = read_bytes_per_s_.find(status.st_dev); rate != read_bytes_per_s_.end())
      state.read_bytes_per_s = static_cast<std::uint64_t>(std::llround(rate->second));
  }
  if (!state.resident_known) state.resident_bytes = 0;
  return state;
}

std::vector<std::optional<wire::WeightsState>> HostCache::look(const std::vector<std::string>& sources,
                                                               base::Duration at_most) {
  std::vector<std::optional<wire::WeightsState>> states(sources.size());
  if (sources.empty()) return states;
  const base::TimePoint end = now() + at_most;
  std::size_t first = 0;
  {
    const std::lock_guard lock(mutex_);
    first = next_look_ % sources.size();
  }
  std::size_t done = 0;
  do {
    const std::size_t at = (first + done) % sources.size();
    states[at] = state_of(sources[at]);
  } while (++done < sources.size() && now() < end);
  const std::lock_guard lock(mutex_);
  next_look_ = first + done;
  return states;
}

wire::WeightsEvicted HostCache::carry_out(const wire::EvictWeights& order) const {
  wire::WeightsEvicted answer;
  answer.node = node_;
  answer.source = order.source;
  const auto engines = copies(order.source);
  if (!engines) {
    answer.resident_bytes = state_of(order.source).resident_bytes;
    answer.why_left = "an instance uses it";
    return answer;
  }
  const std::vector<std::string> files = source_files(order.source);
  const auto report = *engines > 0 ? page_out_read(files, *engines) : page_out_tail(files, order.keep_bytes);
  if (!report.ok()) {
    answer.why_left = report.error().message;
  } else {
    answer.freed_bytes = report->freed_bytes();
    answer.resident_bytes = report->after_bytes;
    answer.why_left = report->why_left;
  }
  if (answer.why_left.empty())
    spdlog::debug("{}: {} bytes taken out of memory, {} stay", order.source, answer.freed_bytes, answer.resident_bytes);
  else
    spdlog::debug("{}: {} bytes taken out of memory, {} stay and not {}: {}", order.source, answer.freed_bytes,
                  answer.resident_bytes, order.keep_bytes, answer.why_left);
  return answer;
}

base::Result<wire::WeightsEvicted> HostCache::evict(const std::string& source) {
  if (!copies(source)) return base::Error{base::ErrorKind::conflict, "an instance uses the weights"};
  return carry_out({source, 0});
}

}  // namespace thaw::node
