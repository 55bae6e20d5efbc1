#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "node/device/cuda_checkpoint.h"
#include "node/device/cuda_survey.h"
#include "node/tiers/device_lanes.h"
#include "node/tiers/driver.h"
#include "node/tiers/outcome.h"

namespace thaw::node {

/// Standby on a GPU by CUDA's checkpoints: device memory becomes host memory of the process itself, contexts and
/// compiled code stay. Made in this process, which lives as long as the node: a tool that is started for each would
/// wait seconds for the driver each time.
///
///     down: lock every process ─► checkpoint every process ─► did the memory leave?
///       a lock fails: unlock, answers ─► ready      a checkpoint fails: restore, unlock, answers ─► ready anything
///       FAILED: lost
///     up:   is there room? ─► restore ─► unlock ─► answers?
///       no room: standby                 a restore fails for other reasons than room: standby anything FAILED: lost
///
/// A checkpoint and a restore cannot be cut short: where the deadline passes in the middle of one, the instance is
/// lost. So is one whose restore failed for want of room, because the driver may never restore it after
/// (cuda_checkpoint.h); hence the question before.
class CudaCheckpointDriver : public TierDriver {
 public:
  struct Options {
    CudaLibraries libraries = {};
    unsigned per_device = 2;  ///< steps at once on one device: one pins while another copies; more only share the bus
    base::Duration undo_timeout = base::Seconds(30);
    base::Duration return_timeout = base::Seconds(2);  ///< from a checkpoint's end to NVML's seeing it
  };
  explicit CudaCheckpointDriver(Options options);
  CudaCheckpointDriver() : CudaCheckpointDriver(Options()) {}

  [[nodiscard]] std::string_view name() const override { return "cuda"; }
  [[nodiscard]] const Capability& capability() const override { return capability_; }
  [[nodiscard]] Keeps keeps() const override { return Keeps::process; }
  [[nodiscard]] base::Status accepts(const TierSubject& subject) const override;
  [[nodiscard]] TierEstimate estimate(const TierSubject& subject) const override;
  [[nodiscard]] TierOutcome down(const TierSubject& subject, const TierCall& call) override;
  /// `subject.device` may be another than the one it went down on: then it comes back there (driver 580, the same kind
  /// of GPU).
  [[nodiscard]] TierOutcome up(const TierSubject& subject, const TierCall& call) override;
  base::Status discard(const TierSubject& subject) override;

 private:
  struct Parked {
    std::vector<pid_t> pids;  ///< those that use CUDA
    std::vector<base::DeviceId> devices;
    std::vector<std::string> uuids;  ///< of those devices; "": not known
    std::uint64_t device_bytes = 0;
  };
  using Failure = TierFailure;

  base::Status await_driver(const TierCall& call) const;
  [[nodiscard]] std::vector<pid_t> cuda_processes(const TierSubject& subject) const;
  [[nodiscard]] bool any_in(const std::vector<pid_t>& pids, CudaProcessState state) const;
  [[nodiscard]] Holdings holds(const TierSubject& subject) const;
  std::optional<Failure> lock_all(const TierSubject& subject, const std::vector<pid_t>& pids, const TierCall& call);
  std::optional<Failure> checkpoint_all(const TierSubject& subject, const std::vector<pid_t>& pids,
                                        const TierCall& call);
  std::optional<Failure> park(const TierSubject& subject, const TierCall& call, Parked& parked);
  std::optional<Failure> unpark(const TierSubject& subject, const TierCall& call, const Parked& parked);
  Failure back_to_ready(const TierSubject& subject, const std::vector<pid_t>& pids, base::Error error);
  base::Result<std::vector<CudaMove>> moves_to(const TierSubject& subject, const Parked& parked) const;
  base::Status await_room(const TierSubject& subject, const TierCall& call, std::uint64_t bytes) const;
  DeviceLanes::Ran step(const TierSubject& subject, const TierCall& call,
                        base::Status (CudaCheckpoint::*what)(pid_t) const, pid_t pid);

  Options options_;
  Capability capability_;
  std::unique_ptr<CudaCheckpoint> cuda_;  ///< null: none here
  std::mutex mutex_;
  std::map<base::InstanceId, Parked> parked_;
  DeviceLanes lanes_;  ///< last: its calls use what is above
};

}  // namespace thaw::node
