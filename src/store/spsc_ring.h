#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace thaw::store {

/// A queue from one thread to one other, without a lock: a lock that the slower one holds while it is off the processor
/// would stop the other one. Never full, because its user has at most `capacity` things to put into it.
template <typename T>
class SpscRing {
 public:
  explicit SpscRing(std::size_t capacity) : items_(std::bit_ceil(capacity > 0 ? capacity : 1)) {}

  /// The putting thread's.
  void put(T item) {
    const std::uint64_t at = put_.load(std::memory_order_relaxed);
    items_[at & (items_.size() - 1)] = item;
    put_.store(at + 1);  // in one order with empty(), for who sleeps when it is
  }

  /// The taking thread's: appends at most `most` to `to`; how many.
  std::size_t take(std::vector<T>& to, std::size_t most) {
    const std::uint64_t at = taken_.load(std::memory_order_relaxed);
    const std::uint64_t there = put_.load(std::memory_order_acquire) - at;
    const auto count = static_cast<std::size_t>(there < most ? there : most);
    for (std::size_t i = 0; i < count; ++i) to.push_back(items_[(at + i) & (items_.size() - 1)]);
    taken_.store(at + count, std::memory_order_release);
    return count;
  }

  // Any thread.
  [[nodiscard]] std::uint64_t put_count() const { return put_.load(std::memory_order_acquire); }  ///< ever
  [[nodiscard]] bool empty() const { return put_.load() == taken_.load(); }
  [[nodiscard]] std::size_t size() const {
    const std::uint64_t taken = taken_.load(std::memory_order_acquire);  // first, so that it is never above
    return static_cast<std::size_t>(put_.load(std::memory_order_acquire) - taken);
  }

 private:
  static constexpr std::size_t kCacheLine = 64;
  std::vector<T> items_;
  alignas(kCacheLine) std::atomic<std::uint64_t> put_ = 0;
  alignas(kCacheLine) std::atomic<std::uint64_t> taken_ = 0;
};

}  // namespace thaw::store
