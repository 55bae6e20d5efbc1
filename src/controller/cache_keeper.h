#pragma once

#include <functional>
#include <vector>

#include "control/host_cache.h"
#include "net/loop.h"
#include "observe/metrics.h"

namespace thaw::controller {

/// The effectful half of control::HostCache: feeds one node's book with what happens and sends its orders to the node.
/// Loop thread only.
class CacheKeeper {
 public:
  using Send = std::function<void(wire::NodeCommand)>;

  CacheKeeper(net::Loop& loop, observe::Metrics& metrics, wire::HostCacheInfo info, Send send);
  CacheKeeper(const CacheKeeper&) = delete;
  CacheKeeper& operator=(const CacheKeeper&) = delete;

  /// An event for the book: keep([&](auto& book, auto now, auto& out) { book.instance_gone(id, now, out); }).
  template <typename Event>
  void keep(const Event& event) {
    event(book_, loop_.now(), actions_);
    carry_out();
  }
  void on(const wire::WeightsState& state);
  void on(const wire::WeightsEvicted& evicted);
  /// On every request's way: no order follows.
  void requested(const base::ModelName& model) { book_.requested(model, loop_.now()); }

  [[nodiscard]] const control::HostCache& book() const { return book_; }
  /// Whether the last look at all weights is old enough for another; true counts as one.
  [[nodiscard]] bool look_is_due();

 private:
  void carry_out();

  net::Loop& loop_;
  observe::Metrics& metrics_;
  control::HostCache book_;
  Send send_;
  net::Timer timer_;
  control::CacheActions actions_;
  base::TimePoint looked_at_{};
};

}  // namespace thaw::controller
