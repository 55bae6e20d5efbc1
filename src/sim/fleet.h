#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "spec/model_spec.h"

/// The machines that a simulation runs on, what models are like, and what every way up costs. docs/simulator.md has the
/// formulas.
namespace thaw::sim {

using DeviceIndex = std::uint32_t;  ///< over all nodes, in order
using Devices = std::vector<DeviceIndex>;  ///< of one machine: those of a replica

/// One kind of machine.
struct NodeShape {
  std::uint32_t count = 1;  ///< machines of this kind
  /// On a CPU the device's memory is the machine's: weights that instances map are its page cache, and no bus leads
  /// there.
  spec::DeviceKind device_kind = spec::DeviceKind::cuda;
  std::uint32_t devices = 8;             ///< in each
  std::uint64_t device_bytes = 0;        ///< memory of a device that instances may hold
  std::uint64_t bus_bytes_per_s = 0;     ///< host to device and back, for each device by itself
  std::uint64_t memory_bytes_per_s = 0;  ///< a device's own memory
  double device_tflops = 0;              ///< dense, 16 bit
  std::uint64_t host_bytes = 0;          ///< memory for weights that are cached and for what is in standby
  std::uint64_t standby_bytes = 0;       ///< of it, for standby at most
  std::uint64_t disk_bytes_per_s = 0;    ///< sequential reads, shared by all that load at a time
  std::uint64_t image_bytes = 0;         ///< disk for images
  /// On a CPU: the host of a virtual machine takes so much of its free memory back at a time (HostMemory), and whoever
  /// needs it then waits until it is there again. 0: the memory is the machine's own.
  std::uint64_t memory_return_bytes = 0;
  std::string domain;  ///< what fails together; empty: every machine by itself
};

/// What was measured of a kind of model on a machine, in place of what the fleet's costs and the roofline would say.
struct Measured {
  std::optional<base::Duration> start, restore, wake, freeze, stop;  ///< as WayCosts, with its weights in memory
  /// What the first answer takes longer than the next, being the first to touch memory: after a start or restore with
  /// the weights in memory, after one that reads them meanwhile (absent: the same), and after a wake.
  base::Duration first_answer{};
  std::optional<base::Duration> first_from_disk;
  base::Duration first_after_wake{};
  base::Duration prompt{};                     ///< of a prompt, beside its tokens
  std::optional<base::Duration> prompt_token;  ///< for each token of a prompt
  std::optional<base::Duration> step;  ///< in which each running sequence gets a token, beside ModelClass::per_sequence
  /// first_from_disk and first_after_wake, where the memory that the weights come into was in use a moment ago
  /// (HostMemory). Absent: it makes no difference.
  std::optional<base::Duration> soon_from_disk{}, soon_after_wake{};
};

/// One kind of model. A model of a trace is of the kind that has its name; the others are dealt out to kinds by their
/// shares, the same way whatever the policy.
struct ModelClass {
  std::string name;
  double share = 1;
  std::uint64_t weights_bytes = 0;
  std::uint64_t working_bytes =
      0;  ///< device memory of a replica beyond its weights: KV cache, activations, CUDA context
  std::uint64_t state_bytes =
      0;  ///< of those what survives in standby and in an image; the KV cache is empty then and is not kept
  /// What the kernel counts for a replica that is up, beside mapped weights: what is reserved and never touched is not
  /// there. Absent: working_bytes.
  std::optional<std::uint64_t> resident_bytes;
  /// On a CPU: what of both is touched first by a token of the longest request that a replica had (KV cache, buffers
  /// for a batch). They are then what a replica has before any, and grow up to working_bytes.
  std::uint64_t bytes_per_token = 0;
  std::uint32_t devices = 1;      ///< that a replica takes, each with an equal share of its bytes and of its work
  std::uint32_t concurrency = 1;  ///< requests a replica serves at once
  std::uint32_t max_replicas = 16;
  base::Duration idle_timeout = base::Seconds(300);  ///< scaling.idleTimeout of the model's spec
  spec::Mode standby = spec::Mode::automatic;        ///< standby.mode of the model's spec
  spec::Priority priority = spec::Priority::normal;  ///< priority of the model's spec
  base::Duration per_sequence{};                     ///< what each running sequence adds to an iteration
  Measured measured;

  [[nodiscard]] std::uint64_t own_bytes() const { return resident_bytes.value_or(working_bytes); }
  /// On a CPU, of a replica whose longest request had so many tokens: up, and in standby.
  [[nodiscard]] std::uint64_t own_bytes(std::uint64_t longest_tokens) const {
    return grown(own_bytes(), longest_tokens);
  }
  [[nodiscard]] std::uint64_t rest_bytes(std::uint64_t longest_tokens) const {
    return grown(state_bytes, longest_tokens);
  }
  [[nodiscard]] std::uint64_t device_bytes() const { return weights_bytes + working_bytes; }
  /// On each of its devices.
  [[nodiscard]] std::uint64_t share_bytes() const { return device_bytes() / devices + (device_bytes() % devices > 0 ? 1 : 0); }
  [[nodiscard]] std::uint64_t kept_bytes() const {
    return weights_bytes + state_bytes;
  }  ///< that standby moves to the host
  [[nodiscard]] std::uint64_t grown(std::uint64_t bytes, std::uint64_t tokens) const {
    return std::max(bytes, std::min(bytes + tokens * bytes_per_token, working_bytes));
  }
};

/// A tenant, as control/tenants.h has it.
struct TenantShape {
  std::string name;
  double share = 1;  ///< of the models of a trace that names no tenants
  double weight = 1;
  std::optional<double> max_devices{};
  std::optional<double> max_device_seconds_per_day{};
  spec::Priority max_priority = spec::Priority::high;
};

/// What moves no weights. The bytes come on top of it, as disk and bus allow.
struct WayCosts {
  base::Duration start{};    ///< sandbox, engine's initialisation, warm-up
  base::Duration restore{};  ///< sandbox and process out of an image
  base::Duration wake{};
  base::Duration freeze{};
  base::Duration stop{};       ///< until the memory was seen to return
  base::Duration request{};    ///< gateway and network, added to every answer
  base::Duration iteration{};  ///< the engine's own time for each step of its batch
};

struct Fleet {
  std::string name;
  std::vector<NodeShape> nodes;
  std::vector<ModelClass> models;
  std::vector<TenantShape> tenants;  ///< empty: one, of whom nothing is said
  WayCosts costs;
  /// On a CPU: the share of the processors that an engine has which has not answered yet, while another computes as
  /// well. Half: none comes first.
  double fresh_share = 0.5;
  /// On a CPU: what several engines that compute at the same time get done together, of what one alone would.
  double contended_rate = 1;
  /// The same while one of them is on its way to its first answer: beside computing, its weights are read, mapped and
  /// touched, which one alone does with processors that would be idle. Absent: no different.
  std::optional<double> rising_rate;
  double prompt_efficiency = 0.5;  ///< share of device_tflops that reading prompts reaches
  double decode_efficiency = 0.7;  ///< share of memory_bytes_per_s that decoding reaches
  double device_hour_price = 0;
  bool images_ready =
      true;  ///< an image of every model is on every node's disk from the first; else they are made as a policy does

  [[nodiscard]] std::uint32_t device_count() const;
  [[nodiscard]] const ModelClass& class_of(std::uint32_t model) const;  ///< dealt out by a hash of the index
  [[nodiscard]] const ModelClass& class_of(std::uint32_t model,
                                           const std::string& name) const;  ///< the kind of that name, else dealt out
};

constexpr std::uint32_t kMaxFleetDevices = 100'000;

/// Reads `kind: Fleet` in YAML; the same strictness as all specs.
base::Result<Fleet> parse_fleet(std::string_view text, const std::string& file);

/// The fleets used where none is given, as YAML with the source of every number: for traces with tokens, and for those
/// with durations.
const char* default_fleet_yaml(bool durations);
Fleet default_fleet(bool durations);

/// The same with another number of machines of its first kind alone, or of devices (fewer than a machine's: one machine
/// with so many).
Fleet resized(Fleet fleet, std::uint32_t devices);

}  // namespace thaw::sim
