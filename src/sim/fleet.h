#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

/// The machines that a simulation runs on, what models are like, and what every way up costs. docs/simulator.md has the
/// formulas.
namespace thaw::sim {

using DeviceIndex = std::uint32_t;  ///< over all nodes, in order

/// One kind of machine.
struct NodeShape {
  std::uint32_t count = 1;               ///< machines of this kind
  std::uint32_t devices = 8;             ///< in each
  std::uint64_t device_bytes = 0;        ///< memory of a device that instances may hold
  std::uint64_t bus_bytes_per_s = 0;     ///< host to device and back, for each device by itself
  std::uint64_t memory_bytes_per_s = 0;  ///< a device's own memory
  double device_tflops = 0;              ///< dense, 16 bit
  std::uint64_t host_bytes = 0;          ///< memory for weights that are cached and for what is in standby
  std::uint64_t standby_bytes = 0;       ///< of it, for standby at most
  std::uint64_t disk_bytes_per_s = 0;    ///< sequential reads, shared by all that load at a time
  std::uint64_t image_bytes = 0;         ///< disk for images
};

/// One kind of model. Models of a trace are dealt out to kinds by their shares, the same way whatever the policy.
struct ModelClass {
  std::string name;
  double share = 1;
  std::uint64_t weights_bytes = 0;
  std::uint64_t working_bytes =
      0;  ///< device memory of a replica beyond its weights: KV cache, activations, CUDA context
  std::uint64_t state_bytes =
      0;  ///< of those what survives in standby and in an image; the KV cache is empty then and is not kept
  std::uint32_t concurrency = 1;  ///< requests a replica serves at once
  base::Duration per_sequence{};  ///< what each running sequence adds to an iteration

  [[nodiscard]] std::uint64_t device_bytes() const { return weights_bytes + working_bytes; }
  [[nodiscard]] std::uint64_t kept_bytes() const {
    return weights_bytes + state_bytes;
  }  ///< that standby moves to the host
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
  WayCosts costs;
  double prompt_efficiency = 0.5;  ///< share of device_tflops that reading prompts reaches
  double decode_efficiency = 0.7;  ///< share of memory_bytes_per_s that decoding reaches
  double device_hour_price = 0;
  bool images_ready =
      true;  ///< an image of every model is on every node's disk from the first; else they are made as a policy does

  [[nodiscard]] std::uint32_t device_count() const;
  [[nodiscard]] const ModelClass& class_of(std::uint32_t model) const;  ///< dealt out by a hash of the index
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
