#pragma once

#include <cstdint>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/time.h"

namespace thaw::sim {

/// A disk or a bus that all who use it at a time share evenly (processor sharing). Bytes are counted in virtual time,
/// which runs at the rate that each of them gets: joining and leaving cost O(log n), however many there are.
class Link {
 public:
  explicit Link(double bytes_per_s) : bytes_per_s_(bytes_per_s) {}

  void add(std::uint64_t who, double bytes, base::TimePoint now);  ///< `who` has nothing here at present
  void remove(std::uint64_t who, base::TimePoint now);             ///< no harm if it has nothing here
  [[nodiscard]] base::TimePoint next() const;                      ///< when the next one is done; never() when idle
  std::uint64_t pop(base::TimePoint now);                          ///< takes out the one that is done at next() == now
  [[nodiscard]] std::size_t size() const { return done_at_.size(); }
  [[nodiscard]] double bytes_left(base::TimePoint now) const;             ///< of all together
  [[nodiscard]] std::uint64_t generation() const { return generation_; }  ///< changes with next()

 private:
  void advance(base::TimePoint now);

  double bytes_per_s_;
  double virtual_ = 0;  ///< bytes that each of those here got since the beginning
  base::TimePoint at_{};
  std::set<std::pair<double, std::uint64_t>> done_at_;
  std::unordered_map<std::uint64_t, double> of_;
  std::uint64_t generation_ = 0;
};

}  // namespace thaw::sim
