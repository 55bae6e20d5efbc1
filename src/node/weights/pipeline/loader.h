#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "node/weights/pipeline/load.h"
#include "node/weights/pipeline/worker.h"

/// The problem: weights come from a disk and are needed in a device's memory. Read first and copied then, or copied by
/// a thread that waits for each, disk and bus stand idle in turns; pinned as a whole, the host's memory must hold all
/// of them and pinning takes longer than reading. Here a small ring is pinned once, reads fill it at the disk's rate,
/// and each device copies out of it on a stream of its own. docs/weights-pipeline.md has the drawing.
namespace thaw::node::pipeline {

/// Loads lists of tensors, one list at a time. Owns a thread, which alone touches the ring, the disk and the driver;
/// the rest is for any thread. Takes memory and loads the driver when a load first needs them, and keeps them.
class Loader {
 public:
  /// Errors: invalid (options out of range).
  static base::Result<std::unique_ptr<Loader>> open(LoaderOptions options);
  /// Cancels the load under way and waits for it.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Begins to load; what can be seen to be wrong before a byte is read is told at once. Errors: conflict (another load
  /// is under way), not_found, denied, io (a file), invalid (see Plan::make).
  base::Result<std::shared_ptr<Load>> start(std::vector<std::string> files, std::vector<TensorPart> tensors,
                                            std::uint64_t window_bytes = LoadOptions{}.window_bytes);

 private:
  explicit Loader(LoaderOptions options);
  void run(const LoaderOptions& options);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Load> load_;  ///< waiting for the thread, or being carried out by it
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace thaw::node::pipeline
