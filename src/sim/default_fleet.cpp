#include <cassert>

#include "sim/fleet.h"

namespace thaw::sim {

namespace {

constexpr const char* kTokens = R"(apiVersion: thaw/v1
kind: Fleet
name: p4de (8 x A100 80 GB)
nodes:
  - count: 4
    devices: 8
    deviceMemory: 78GiB            # A100 80 GB (NVIDIA data sheet DA-11023), less 2 GiB that nobody may hold
    busPerSecond: 24GB             # PCIe 4.0 x16, pinned: 31.5 GB/s by the standard, about 24 in bandwidthTest
    deviceMemoryPerSecond: 2039GB  # the same data sheet
    deviceTflops: 312              # BF16, dense: the same data sheet
    hostMemory: 1000GiB            # of p4de.24xlarge's 1,152 GiB (AWS, EC2 P4 instances)
    standbyMemory: 700GiB
    diskPerSecond: 16GB            # its 8 NVMe disks together (AWS, EC2 P4 instances)
    imageDisk: 2TiB                # of 8 x 1 TB
models:                            # 16 bit weights; the rest is a KV cache for some requests, activations, CUDA context
  - {name: 3B, share: 3, weights: 6GB, working: 6GB, state: 1GB, concurrency: 4, perSequence: 100us}
  - {name: 8B, share: 5, weights: 16GB, working: 8GB, state: 1GB, concurrency: 4, perSequence: 150us}
  - {name: 14B, share: 2, weights: 29GB, working: 11GB, state: 1GB, concurrency: 4, perSequence: 200us}
costs:
  start: 30s         # vLLM without the weights: imports, profiling, compiling, graph capture; "30-60 s cold starts"
                     # (discuss.huggingface.co/t/173322); broken down in arXiv:2606.07362
  restore: 1s        # an initialised runtime without weights and KV; InferX reports about 2 s for a 70B model in all (the same thread),
                     # Modal 12 times less than a start with GPU memory snapshots (modal.com/blog/gpu-mem-snapshots)
  wake: 200ms        # cuCheckpointProcessRestore and Unlock beside the copy; thaw's own emulator bench has the calls at 20 to 50 ms
  freeze: 200ms      # Lock and Checkpoint beside the copy
  stop: 500ms        # end of the process, its memory seen to return
  request: 2ms       # thaw's relay adds 0.1 ms (docs/benchmarks.md); the rest is a network
  iteration: 3ms     # the engine's own time for each step: scheduler, sampling
promptEfficiency: 0.5   # share of the peak that prompts reach (roofline: Williams et al. 2009)
decodeEfficiency: 0.7   # share of the memory's rate that decoding reaches
deviceHourPrice: 5.12   # USD: p4de.24xlarge on demand, 40.97 an hour, an eighth
images: ready
)";

constexpr const char* kDurations = R"(apiVersion: thaw/v1
kind: Fleet
name: g5 (8 x A10G 24 GB)
nodes:
  - count: 4
    devices: 8
    deviceMemory: 22GiB            # A10G 24 GB (AWS, EC2 G5 instances), less 2 GiB that nobody may hold
    busPerSecond: 24GB             # PCIe 4.0 x16, pinned
    deviceMemoryPerSecond: 600GB   # NVIDIA A10 data sheet
    deviceTflops: 70               # the same, dense
    hostMemory: 600GiB             # of g5.48xlarge's 768 GiB (AWS, EC2 G5 instances)
    standbyMemory: 400GiB
    diskPerSecond: 7GB             # its two NVMe disks together
    imageDisk: 1TiB
models:                            # base models of image generation: SDXL's UNet, text encoders and VAE at 16 bit are 6.9 GB
  - {name: image, share: 1, weights: 7GB, working: 6GB, state: 1GB, concurrency: 1}
costs:
  start: 20s         # a Python pipeline without the weights: imports, CUDA, warm-up
  restore: 1s        # as for tokens
  wake: 200ms
  freeze: 200ms
  stop: 500ms
  request: 2ms
deviceHourPrice: 2.04   # USD: g5.48xlarge on demand, 16.29 an hour, an eighth
images: ready
)";

}  // namespace

const char* default_fleet_yaml(bool durations) {
  return durations ? kDurations : kTokens;
}

Fleet default_fleet(bool durations) {
  auto fleet = parse_fleet(default_fleet_yaml(durations), "default fleet");
  assert(fleet.ok());
  return std::move(fleet).value();
}

}  // namespace thaw::sim
