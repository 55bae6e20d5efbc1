#include "controller/cache_keeper.h"

#include <spdlog/spdlog.h>

#include "base/units.h"

namespace thaw::controller {
namespace {

/// People and monitors who ask more often share an answer.
constexpr auto kLookEvery = base::Seconds(1);

}  // namespace

CacheKeeper::CacheKeeper(net::Loop& loop, observe::Metrics& metrics, wire::HostCacheInfo info, Send send)
    : loop_(loop), metrics_(metrics), book_(info), send_(std::move(send)), timer_(loop, [this] {
        book_.tick(loop_.now(), actions_);
        carry_out();
      }) {}

void CacheKeeper::on(const wire::WeightsState& state) {
  keep([&](control::HostCache& book, base::TimePoint now, control::CacheActions& out) {
    book.weights_state(state, now, out);
  });
}

void CacheKeeper::on(const wire::WeightsEvicted& evicted) {
  metrics_.weights_evicted(evicted.freed_bytes, !evicted.why_left.empty());
  if (evicted.freed_bytes > 0)
    spdlog::info("{}: {} left the host cache, {} stay", evicted.source, base::format_bytes(evicted.freed_bytes),
                 base::format_bytes(evicted.resident_bytes));
  // Tried again for as long as it is too much; said once.
  const auto entry = book_.entry(evicted.source, loop_.now());
  if (!evicted.why_left.empty() && entry && entry->why_left.empty())
    spdlog::warn("{}: {} stay in memory although the host cache is full: {}", evicted.source,
                 base::format_bytes(evicted.resident_bytes), evicted.why_left);
  keep([&](control::HostCache& book, base::TimePoint now, control::CacheActions& out) {
    book.weights_evicted(evicted, now, out);
  });
}

bool CacheKeeper::look_is_due() {
  const base::TimePoint now = loop_.now();
  if (looked_at_ != base::TimePoint{} && now - looked_at_ < kLookEvery) return false;
  looked_at_ = now;
  return true;
}

void CacheKeeper::carry_out() {
  for (control::CacheAction& action : actions_) std::visit([this](auto& order) { send_(std::move(order)); }, action);
  actions_.clear();
  if (const base::TimePoint next = book_.next_tick(); next == base::never())
    timer_.disarm();
  else
    timer_.arm(next);
}

}  // namespace thaw::controller
