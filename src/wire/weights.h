#pragma once

#include <cstdint>
#include <string>

#include "base/ids.h"

/// What controller and node say to each other about a node's page cache over model files. Weights are named by their
/// source, a ModelSpec's source.path: models with the same source share them.
namespace thaw::wire {

/// How many bytes of weights may be in a node's page cache beside those that its CPU device's instances have reserved.
struct HostCacheInfo {
  std::uint64_t max_bytes = 0;     ///< at most this, and ...
  std::uint64_t shared_bytes = 0;  ///< ... with all host memory that instances have reserved at most this
};

// --- controller -> node

/// Answered by WeightsState. Costs a call or two a file and reads nothing.
struct LookAtWeights {
  std::string source;
};

/// Takes weights out of memory, from their end, until at most keep_bytes are there. What is to stay and not what is to
/// leave, so that an order that was decided on old news does no harm. Answered by WeightsEvicted.
struct EvictWeights {
  std::string source;
  std::uint64_t keep_bytes = 0;
};

// --- node -> controller

struct WeightsState {
  base::NodeName node;
  std::string source;
  std::uint64_t weights_bytes = 0;     ///< files on disk; 0 when there are none
  std::uint64_t resident_bytes = 0;    ///< of them in the page cache
  bool resident_known = true;          ///< false: the kernel does not tell this user, and resident_bytes is 0
  std::uint64_t read_bytes_per_s = 0;  ///< of the disk that has them, as last measured; 0: never
};

struct WeightsEvicted {
  base::NodeName node;
  std::string source;
  std::uint64_t freed_bytes = 0;     ///< that left
  std::uint64_t resident_bytes = 0;  ///< that are in memory now
  std::string why_left;              ///< for people, when more than keep_bytes are; else empty
};

}  // namespace thaw::wire
