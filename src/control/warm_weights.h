#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>

#include "base/time.h"

namespace thaw::control {

struct Model;

/// Which models' weights are in a node's memory, as far as can be told from who came up there: the longest unused are
/// taken to have left once the rest fills the memory there is for them. An estimate, for choosing a node; the books of
/// what is really there are the node's (host_cache.h). Every call takes the time of a hash look-up, plus what leaves.
class WarmWeights {
 public:
  /// The model's weights have just been used here; of those that are known, the longest unused beyond `capacity_bytes`
  /// are forgotten.
  void used(const Model& model, std::uint64_t bytes, std::uint64_t capacity_bytes, base::TimePoint now);
  void resize(std::uint64_t capacity_bytes);
  void may_leave(const Model& model);  ///< they are needed no more, and leave first
  void forget(const Model& model);
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// Whether so many bytes of something else fit in with no loss: beside what was used after `since`.
  [[nodiscard]] bool spares(std::uint64_t bytes, std::uint64_t capacity_bytes, base::TimePoint since) const;
  [[nodiscard]] bool has(const Model& model) const { return by_model_.count(&model) > 0; }

 private:
  struct Entry {
    const Model* model;
    std::uint64_t bytes;
    base::TimePoint used_at;
  };
  std::list<Entry> entries_;  ///< the last used first
  std::unordered_map<const Model*, std::list<Entry>::iterator> by_model_;
  std::uint64_t bytes_ = 0;
};

}  // namespace thaw::control
