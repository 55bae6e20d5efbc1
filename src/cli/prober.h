#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/client.h"
#include "cli/interrupt.h"
#include "sim/calibration.h"

namespace thaw::cli {

/// A model as the server describes it, as far as a simulation needs it.
struct ProbedModel {
  sim::ModelClass kind;  ///< what was declared, and what probes found
  std::string like;      ///< models with the same are measured once
  std::string source;    ///< of its weights; models with the same have the same file
  bool freezes = false;
};

/// Takes what a simulation needs from a running server, by its public API alone: a handful of requests to a model while
/// nothing else runs, with its replica stopped, frozen and evicted in between. It ends replicas, so it is for a server
/// that nobody else uses at the time. Blocking. Every wait has a bound.
class Prober {
 public:
  /// `say`: hears what begins. `pause`: how long weights that were taken out of memory stay away before they are wanted
  /// again. A virtual machine's host takes free memory back after some seconds, and a read into it takes several times
  /// as long then as right after an eviction.
  Prober(const Client& client, const Interrupt& interrupt, base::Duration pause,
         std::function<void(const std::string&)> say)
      : client_(client), interrupt_(interrupt), pause_(pause), say_(std::move(say)) {}

  base::Result<ProbedModel> describe(const std::string& name);
  /// Each thing once, added to `probes`. No other replica is up. Stops it in the end.
  base::Status measure(ProbedModel& model, sim::ModelProbes& probes);
  base::Status measure_sharing(const ProbedModel& one, const ProbedModel& other, sim::SharingProbes& probes);
  enum class Weights { on_disk, just_left, in_memory };
  /// All of these at once, of which there is room for all; their weights on the disk, or just left.
  base::Status measure_rising(const std::vector<ProbedModel>& models, Weights weights,
                              std::vector<sim::RisingProbe>& probes);
  base::Status stop(const std::string& name);  ///< until nothing of it is left
  /// What the gateway and the way to it add to an answer, the median over all probes so far.
  [[nodiscard]] base::Duration request_cost() const;

 private:
  struct Seen {
    std::string state;
    std::uint64_t device_bytes = 0, host_bytes = 0, held_bytes = 0;
  };

  base::Result<sim::Probe> ask(const std::string& model, std::uint32_t words, std::uint32_t tokens);
  base::Status act(const std::string& name, const char* act);
  std::string prompt(std::uint32_t words);
  base::Result<std::vector<Seen>> instances(const std::string& model);
  base::Status wait(const std::string& what, const std::function<base::Result<bool>()>& condition);
  base::Status measure_answers(const std::string& name, std::uint32_t concurrency, sim::ModelProbes& probes);
  static std::uint32_t prompt_for(Weights weights);
  base::Status measure_start(const std::string& name, Weights weights, sim::ModelProbes& probes);
  base::Status measure_holding(const std::string& name, std::vector<sim::Holding>& into);
  base::Result<sim::Probe> ask_fresh(const std::string& name);
  base::Status measure_standby(ProbedModel& model, Weights weights, sim::ModelProbes& probes);
  base::Status put_to_rest(const ProbedModel& model);
  base::Result<std::vector<sim::Probe>> ask_all(const std::vector<std::string>& models, std::uint32_t words,
                                                std::uint32_t tokens);

  const Client& client_;
  const Interrupt& interrupt_;
  base::Duration pause_;
  std::function<void(const std::string&)> say_;
  std::uint32_t longest_tokens_ = 0;  ///< of requests since the last stop
  std::uint64_t word_ = 0;            ///< so that no two prompts begin alike
  std::vector<double> client_s_;
};

}  // namespace thaw::cli
