#pragma once

#include <string>
#include <vector>

#include "base/time.h"
#include "sim/fleet.h"
#include "wire/messages.h"

/// From what probes of a running server found to a fleet that stands for it: pure arithmetic. docs/simulator.md says
/// how the probes are taken.
namespace thaw::sim {

/// One answer of a probe. Times in seconds.
struct Probe {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t output_tokens = 0;
  double queued_s = 0;  ///< waited for a replica
  double first_s = 0;   ///< from dispatch to the first byte of the answer
  double answer_s = 0;  ///< from there to its end
  double client_s = 0;  ///< what the client saw beyond what the server did, until the first byte
  double read_s = 0;    ///< weights from the disk, from the order on; 0: none were read
  std::uint64_t read_bytes = 0;
};

/// What a replica was seen to hold beside its weights, up or in standby.
struct Holding {
  std::uint64_t bytes = 0;
  std::uint32_t longest_tokens = 0;  ///< of the requests that it had
};

/// What was probed of one model, each kind several times.
struct ModelProbes {
  std::vector<Probe> warm;       ///< prompts of different lengths, alone on the machine
  std::vector<Probe> decode;     ///< longer answers, one at a time
  std::vector<Probe> together;   ///< the same two at a time; empty: it serves one at a time
  std::vector<Probe> from_disk;  ///< starts with the weights on the disk, some time after they left memory
  std::vector<Probe> starts;     ///< starts with the weights in memory
  std::vector<Probe> wakes;      ///< as much later; empty: it cannot be frozen
  std::vector<Probe> soon_from_disk, soon_wakes;  ///< the same two right after the weights left memory
  std::vector<double> freeze_s, stop_s;
  std::vector<Holding> short_up, long_up;  ///< a replica after a short request, and the same after a long one
  std::vector<Holding> resting;            ///< in standby
};

/// Of several engines at once on a CPU, in seconds. Empty: not probed.
struct SharingProbes {
  std::vector<double> fresh_alone_s,
      fresh_beside_s;                       ///< a start's first answer, and the same beside an engine that computes
  std::vector<double> apart_s, together_s;  ///< two models' answers one after the other, and both at once
};

/// Several models that came up at once, their weights on the disk.
struct RisingProbe {
  struct Riser {
    std::string model;
    wire::Way way = wire::Way::start;
    std::uint32_t prompt_tokens = 0;
  };
  std::vector<Riser> risers;
  bool late = false;      ///< some time after their weights left memory; else right after
  double together_s = 0;  ///< until the last one's first answer
};

/// prompt and promptToken: the median of the slopes between all pairs, and of what is left (Theil 1950, Sen 1968): up
/// to some 29% of the probes may have been disturbed. Neither below 0.
struct PromptLine {
  double prompt_s = 0;
  double token_s = 0;
};
PromptLine fit_prompts(const std::vector<Probe>& warm);

/// What the host of a virtual machine takes back of its free memory at a time: 32 blocks of the largest size, of 4 MiB
/// (Linux, mm/page_reporting.c: PAGE_REPORTING_CAPACITY), as was seen. Where memory is the machine's own it makes no
/// difference, since there the probes find none between soon and late.
constexpr std::uint64_t kMemoryReturn_bytes = 128ULL << 20;

/// Medians, less what the model has the rest cost. `kind` keeps what is not measured. No probes of a sort: its default.
void calibrate(ModelClass& kind, const ModelProbes& probes);
/// Bytes a second, the median over all that read; 0: none did.
double disk_rate(const std::vector<ModelProbes>& models);
/// `rising`: of models of the fleet, which and whose disk are calibrated by now: what one takes alone is known of many
/// probes.
void calibrate(Fleet& fleet, const SharingProbes& probes, const std::vector<RisingProbe>& rising);

double median(std::vector<double> values);  ///< 0 of none

/// As parse_fleet() reads it; what has its default is left out.
std::string to_yaml(const Fleet& fleet);

}  // namespace thaw::sim
