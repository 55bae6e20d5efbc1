#pragma once

#include "node/tiers/driver.h"

/// Measuring what instances hold. Any thread; reads /proc, control groups and NVML, never a file's contents.
namespace thaw::node {

/// Not reclaimable while the sandbox lives, by its control group; where it has none, by its engine's own page tables. 0
/// when unknown.
std::uint64_t held_host_bytes(const Sandbox& sandbox);

/// Of these files, in the page cache; what the kernel does not tell counts as there.
std::uint64_t weights_in_memory(const std::vector<std::string>& files);
/// Their sizes. Files that are not there have none.
std::uint64_t weights_on_disk(const std::vector<std::string>& files);

/// Whether an engine that has just come up on a CPU computes with copies of its weights: beside what its device bytes have for other things, it holds
/// as much memory of its own as the files have, but for embeddings, of which few rows are looked up. False where the files are small.
bool copies_weights(const TierSubject& subject);

/// Host memory and weights; device_bytes where the device is a GPU and NVML tells (cuda_holdings.h).
Holdings measure(const TierSubject& subject);

/// before - after, each not below zero.
Holdings difference(const Holdings& before, const Holdings& after);

}  // namespace thaw::node
