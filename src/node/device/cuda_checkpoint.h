#pragma once

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/device/cuda_driver.h"

/// The problem: a process that holds a GPU can be made to let go of it and to take it up again without knowing (CUDA's
/// checkpoint API, driver 570 and later), but only by somebody whose driver is initialised, which takes seconds: so it
/// is done once, by the node, in the background. No context is made, so the node holds no device memory itself.
namespace thaw::node {

enum class CudaProcessState {
  running,
  locked,        ///< its CUDA calls wait, and its work on the devices is done
  checkpointed,  ///< its device memory is host memory of its own, and it holds no device
  failed,        ///< it cannot be brought back
};
const char* to_string(CudaProcessState state);

/// Which GPU comes back as which.
struct CudaMove {
  std::string from_uuid;  ///< "GPU-…"
  std::string to_uuid;
};

/// The driver's calls, one by one. Any thread; each blocks, lock() for its timeout at most, the others for as long as
/// the driver pleases: they cannot be cut short but by killing the process. Not for processes with managed memory
/// (UVM), under MPS or on a MIG slice: the driver refuses those.
class CudaCheckpoint {
 public:
  /// Whether the installed driver has these calls at all; nothing is initialised.
  static base::Status offered(const std::string& library);
  /// Loads the driver and begins to initialise it. Fails at once when there is none, or one without these calls.
  static base::Result<std::unique_ptr<CudaCheckpoint>> open(const std::string& library);
  ~CudaCheckpoint();
  CudaCheckpoint(const CudaCheckpoint&) = delete;
  CudaCheckpoint& operator=(const CudaCheckpoint&) = delete;

  /// Fails with unavailable while the driver is being initialised, or with what cuInit said.
  [[nodiscard]] base::Status ready() const;

  /// Fails with invalid when the process does not use CUDA.
  [[nodiscard]] base::Result<CudaProcessState> state(pid_t pid) const;
  /// running -> locked, or timeout, and running as before. Whole ms, at least 1.
  [[nodiscard]] base::Status lock(pid_t pid, base::Duration timeout) const;
  [[nodiscard]] base::Status checkpoint(pid_t pid) const;  ///< locked -> checkpointed
  /// checkpointed -> locked. `moves`: empty, or every GPU of the process (driver 580: can_move()). exhausted: no room
  /// on a device; then it may be that no restore of this process ever succeeds
  /// (github.com/NVIDIA/cuda-checkpoint/issues/44).
  [[nodiscard]] base::Status restore(pid_t pid, const std::vector<CudaMove>& moves) const;
  [[nodiscard]] base::Status unlock(pid_t pid) const;  ///< locked -> running

  /// Whether a process may come back on another GPU (of the same kind).
  [[nodiscard]] bool can_move() const;

 private:
  enum class Init { under_way, done, failed };

  explicit CudaCheckpoint(CudaDriver driver) : driver_(std::move(driver)) {}

  CudaDriver driver_;
  mutable std::mutex mutex_;
  Init init_ = Init::under_way;
  std::string init_error_;
  std::thread initialiser_;
};

}  // namespace thaw::node
