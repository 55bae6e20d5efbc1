#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/time.h"

namespace thaw::node::pull {

/// Bytes [begin, end) of a file.
struct Range {
  std::uint64_t begin = 0, end = 0;
  [[nodiscard]] std::uint64_t bytes() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// A set of bytes of a file, as disjoint ranges that do not touch.
class RangeSet {
 public:
  void add(Range range);
  void remove(Range range);
  void clear() { ranges_.clear(); }
  [[nodiscard]] std::uint64_t bytes() const;
  /// How many bytes from the beginning on are in it.
  [[nodiscard]] std::uint64_t prefix() const;
  /// The first range at or after `from` that is not in it, cut at `end`; nothing when all is.
  [[nodiscard]] std::optional<Range> first_gap(std::uint64_t from, std::uint64_t end) const;
  [[nodiscard]] std::vector<Range> ranges() const;

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;  ///< begin to end
};

/// Which connection fetches which part of one file of known length. Pieces are short where asking costs nothing, so that what lies between the
/// connections fits into the memory in which it waits for its hash, and longer where it does (worth_asking_for()); and short towards the end, so that
/// no connection is left alone with a long one. They end at multiples of kShortest, which is what is written at once. Pure.
class RangePlan {
 public:
  static constexpr std::uint64_t kLongest = 16ULL << 20;
  static constexpr std::uint64_t kUsual = 4ULL << 20;
  static constexpr std::uint64_t kShortest = 1ULL << 20;

  /// `have`: there already. `connections`: at once, at least 1.
  RangePlan(std::uint64_t total_bytes, const RangeSet& have, std::size_t connections);

  /// What the next connection should ask for, `longest` at most; nothing when all is there or asked for.
  std::optional<Range> claim(std::uint64_t longest = kLongest);
  /// The length of which asking takes a twentieth of the time, within kUsual and kLongest. `wait`: from a question to its answer's first byte.
  static std::uint64_t worth_asking_for(base::Duration wait, double bytes_per_s);
  /// Of a claim, what did not come: for others to ask for.
  void give_back(Range range) { claimed_.remove(range); }
  [[nodiscard]] std::uint64_t total() const { return total_; }

 private:
  std::uint64_t total_;
  std::size_t connections_;
  RangeSet claimed_;  ///< with what was there
};

}  // namespace thaw::node::pull
