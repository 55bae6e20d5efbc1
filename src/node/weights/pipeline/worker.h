#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "node/device/cuda_driver.h"
#include "node/weights/direct_reader.h"
#include "node/weights/pipeline/copier.h"
#include "node/weights/pipeline/load.h"
#include "node/weights/read_memory.h"

namespace thaw::node::pipeline {

class DeviceCopier;

struct LoaderOptions {
  /// `depth` chunks of the ring are read, or copied to a device, at the same time.
  ReadSettings ring{2ULL << 20, 16};
  std::string cuda_library = "libcuda.so.1";
  DirectReader::MakeQueue make_queue;  ///< what carries reads out; empty: the best there is
};

/// What the loader's thread has and does: the ring, which is taken and pinned once, a copier for each device, and the
/// loop that keeps the disk and the buses busy at the same time. Made, used and destroyed by one thread.
class Worker {
 public:
  explicit Worker(LoaderOptions options);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Carries a load out. Blocking. Once it returns, nothing is written to the load's destinations any more.
  base::Status run(Load& load);

 private:
  /// A chunk in the ring that has been read and not yet arrived everywhere.
  struct Held {
    unsigned slot = 0;
    const std::byte* memory = nullptr;
    std::vector<Piece> pieces;
    std::vector<int> devices;  ///< that copy from it; empty while a destination is missing
    bool begun = false;
  };

  base::Status load_all(Load& load);
  base::Status set_up(const Load& load);
  base::Status set_up_ring();
  base::Status set_up_device(int device);
  void pin_ring(const DeviceCopier& copier);
  void unpin_ring();
  base::Result<bool> begin_copies(Load& load, Held& held);
  base::Result<bool> arrived_everywhere(Held& held, std::vector<int>& busy);
  /// Begins what can be begun, and frees the slots of what has arrived. Whether there was any of it.
  base::Result<bool> advance(Load& load);
  base::Status wait_for_slot(Load& load);
  void hold(const Load& load, const ReadChunk& chunk);
  void clean_up();

  LoaderOptions options_;
  std::shared_ptr<const CudaDriver> driver_;
  std::unique_ptr<ReadMemory> memory_;
  std::unique_ptr<DirectReader> reader_;
  bool pin_tried_ = false;
  bool pinned_ = false;
  std::map<int, std::unique_ptr<Copier>> copiers_;

  // Of one load.
  std::vector<Held> held_;  ///< in the order of arrival; no more than the ring has slots
  std::vector<std::uint64_t> addresses_;
  std::vector<Copy> copies_;
};

}  // namespace thaw::node::pipeline
