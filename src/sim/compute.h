#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/time.h"
#include "sim/trace.h"

namespace thaw::sim {

/// How long answers take on one device: continuous batching, as vLLM and llama-server do it.
///
/// A replica either reads prompts, one after the other and before all else, or does a step of its batch, in which each
/// running sequence gets one token: step = iteration + per_sequence * batch. The prompt's end is the first token.
/// Replicas that work at the same time on a device share it, by their weights: evenly, unless somebody sets others. On
/// a CPU a replica that comes up works as well (begin_way). docs/simulator.md compares it with what engines do.
class DeviceCompute {
 public:
  using Slot = std::uint32_t;

  struct Work {
    double prompt_s = 0;       ///< on a device that it has for itself
    std::uint32_t tokens = 0;  ///< after the first
  };
  struct Event {
    enum class Kind { first_token, ended, way_ended };
    Kind kind = Kind::ended;
    Slot slot = 0;
    RequestIndex request = 0;  ///< not of a way
  };

  Slot add_replica(double iteration_s, double per_sequence_s);
  void remove_replica(Slot slot);  ///< it has no work
  void begin(Slot slot, RequestIndex request, Work work, base::TimePoint now);
  /// Adds tokens to the batch, of a request whose prompt was begun with none.
  void decode(Slot slot, RequestIndex request, std::uint32_t tokens, base::TimePoint now);
  struct Sharing {
    double contended_rate = 1;  ///< what replicas that work at the same time get done together, of what one alone would
    double rising_rate = 1;     ///< the same while one of them is fresh
    double fresh_weight = 1;    ///< of the fresh replica that comes first; all others have 1
  };
  void be_cpu(Sharing sharing) { sharing_ = sharing; }  ///< it is a CPU's
  /// On its way to its first answer, until it is mature(). The least `rank` comes first, then the first that was.
  void fresh(Slot slot, std::uint64_t rank, base::TimePoint now);
  void mature(Slot slot, base::TimePoint now);
  /// What it does on its way up, before all requests: seconds on a device that it has for itself.
  void begin_way(Slot slot, double seconds, base::TimePoint now);
  /// Takes all work of the replica away.
  void drop_work(Slot slot, base::TimePoint now);

  [[nodiscard]] base::TimePoint next() const { return next_; }
  Event pop(base::TimePoint now);  ///< what happens at next() == now
  [[nodiscard]] std::uint64_t generation() const { return generation_; }
  [[nodiscard]] std::uint32_t working() const { return working_; }  ///< replicas with work
  [[nodiscard]] double busy_s() const { return busy_s_; }           ///< with any work, so far

 private:
  static constexpr Slot kNone = ~Slot{0};
  struct Prompt {
    RequestIndex request;
    double left_s;
    std::uint32_t tokens;
    bool way = false;
  };
  struct Replica {
    bool used = false;
    double iteration_s = 0, per_sequence_s = 0;
    std::deque<Prompt> prompts;
    std::set<std::pair<double, RequestIndex>> batch;  ///< by the virtual time (tokens) at which they end
    double virtual_tokens = 0;

    [[nodiscard]] bool works() const { return !prompts.empty() || !batch.empty(); }
    [[nodiscard]] double step_s() const { return iteration_s + per_sequence_s * static_cast<double>(batch.size()); }
    [[nodiscard]] double left_s() const;  ///< until something happens, on a device of its own
  };

  void advance(base::TimePoint now);
  void plan();
  [[nodiscard]] double weight(Slot slot) const { return slot == first_ ? sharing_.fresh_weight : 1; }
  [[nodiscard]] double rate() const {
    return working_ < 2 ? 1 : first_ == kNone ? sharing_.contended_rate : sharing_.rising_rate;
  }
  void join_batch(Replica& r, RequestIndex request, std::uint32_t tokens);

  std::vector<Replica> replicas_;
  std::vector<Slot> free_;
  std::uint32_t working_ = 0;
  double working_weight_ = 0;  ///< of those with work
  Sharing sharing_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Slot> fresh_;  ///< by rank and order
  std::uint64_t fresh_order_ = 0;
  Slot first_ = kNone;  ///< the fresh one that comes before others; kNone: none works
  base::TimePoint at_{}, next_ = base::never();
  Slot due_ = 0;
  std::uint64_t generation_ = 0;
  double busy_s_ = 0;
};

}  // namespace thaw::sim
