#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "node/adapter_loader.h"
#include "node/agent.h"
#include "node/cpu/turns.h"
#include "node/device/handover.h"
#include "node/engine_log.h"
#include "node/event_queue.h"
#include "node/file_watch.h"
#include "node/sandbox/sandboxes.h"
#include "node/start.h"
#include "node/tiers/drivers.h"
#include "node/watcher.h"
#include "node/weights/page_fill.h"

namespace thaw::node {

/// Keeps every instance's state and moves it along:
///
///     queued ──> starting ──> ready ──────────────────> ending ──> (gone, forgotten)
///        │           │        │   ^                       ^  │
///        │           │   freezing waking ── lost, late ───┤  └── destroy, again until nothing is left
///        │           │        v   │                       │
///        │           │       standby ── ended, stopped ───┤
///        │           └── failed, stopped ─────────────────┘
///        └── stopped: gone at once
///
/// A freezing that fails leaves it ready, or ends it; what a driver cannot say for certain ends it.
/// From the moment in which an instance's engine is about to open the model's files until it ends, they are watched.
/// From `queued` on the model's weights are read into the page cache, beside everything else, until all are there or nobody needs them any more.
///
/// Threads: start workers (blocking: sandbox, mounts, readiness), wake workers and freeze workers (blocking: drivers; a wake, which somebody waits for,
/// never stands behind a freeze), removal workers (blocking: what an ended instance leaves; they also give up on starts that waited past their
/// deadline), the watcher's, the event queue's, those that read weights. One mutex guards the table; nothing slow happens under it.
class Supervisor {
 public:
  /// `sandboxes`, `images`, `caches` (null: none) and `drivers` must outlive the supervisor; `filler` is the one that `drivers` use.
  static base::Result<std::unique_ptr<Supervisor>> start(const AgentConfig& config, Sandboxes& sandboxes, ImageService* images,
                                                         CompileCaches* caches, std::unique_ptr<PageFiller> filler, TierDrivers& drivers, Agent::EventSink sink);
  /// Stops every instance and waits for it to be gone, bounded by the grace and a shutdown timeout; delivers the events.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  void submit(wire::NodeCommand command);
  [[nodiscard]] base::Result<Agent::Usage> usage(base::InstanceId instance) const;
  /// Where the instance's engine answers; empty when it is not ready.
  [[nodiscard]] std::string ready_address(base::InstanceId instance) const;
  /// Whether an instance is being started at this moment. Cheap.
  [[nodiscard]] bool starting() const { return starts_under_way_ > 0; }
  [[nodiscard]] FillTotals weights_read() const { return filler_->totals(); }

 private:
  enum class Stage { queued, starting, ready, freezing, standby, waking, ending };
  struct Instance {
    wire::StartInstance command;
    base::TimePoint received;
    Stage stage = Stage::queued;
    bool stop_asked = false;
    bool kill_sent = false;               ///< SIGKILL, by us
    std::optional<Exit> exit;
    std::unique_ptr<Sandbox> sandbox;     ///< set once, by take_over; valid until removal
    std::shared_ptr<EngineLog> log;
    FillHandle weights;                   ///< on their way into the page cache
    bool weights_there = false;           ///< none are on their way any more
    std::condition_variable changed;      ///< stop_asked, exit
    TierDriver* driver = nullptr;         ///< that takes it to standby; null until it was ready, and where none does
    std::uint64_t host_bytes = 0;         ///< of the host budget, when it came up the last time
    bool copied_weights = false;          ///< its engine needs the files no more
    bool engine_ended = false;            ///< while it was not ready, and so could not say how
    std::stop_source transition;          ///< of the one under way, a start too: it has become pointless
    base::TimePoint transition_until;     ///< its deadline
    int failed_removals = 0;
  };
  using InstancePtr = std::shared_ptr<Instance>;
  class Owner;

  Supervisor(const AgentConfig& config, Sandboxes& sandboxes, ImageService* images, CompileCaches* caches, std::unique_ptr<PageFiller> filler,
             TierDrivers& drivers, Agent::EventSink sink);

  void submit_start(wire::StartInstance command);
  void submit_stop(const wire::StopInstance& command);
  void refuse(const wire::NodeCommand& command);
  void on_weights(base::InstanceId id, const FillProgress& progress);
  void stop_locked(const InstancePtr& instance, base::Duration grace);
  void on_ended(base::InstanceId id, Exit exit);
  void on_overdue(base::InstanceId id);
  static bool ended_by_itself(const Instance& instance);

  InstancePtr next_start_locked();
  void start_worker();
  void finish_start(const InstancePtr& instance, base::Result<StartOutcome> outcome);
  [[nodiscard]] wire::InstanceDown down_locked(const Instance& instance, wire::DownReason reason, std::string detail) const;
  [[nodiscard]] wire::InstanceDown ended_locked(const Instance& instance, wire::DownReason reason, const std::string& prefix) const;
  base::Status take_devices(const Instance& instance);
  void compete_locked(const Instance& instance);
  void end_locked(const InstancePtr& instance);

  // supervisor_tiers.cpp: to standby and back
  void submit_freeze(const wire::FreezeInstance& command);
  void submit_wake(const wire::WakeInstance& command);
  void begin_transition_locked(const InstancePtr& instance, Stage stage, base::Duration within, std::deque<InstancePtr>& queue);
  void break_off_locked(const InstancePtr& instance, const std::string& why, wire::DownReason reason);
  void transition_worker(std::deque<InstancePtr>& queue, void (Supervisor::*carry_out)(const InstancePtr&));
  void on_engine_ended(base::InstanceId instance);
  void freeze(const InstancePtr& instance);
  void wake(const InstancePtr& instance);
  [[nodiscard]] static TierSubject subject_of(const Instance& instance);
  [[nodiscard]] static std::uint64_t host_bytes_beside(const Instance& instance);

  // supervisor_adapters.cpp
  void submit_load(const wire::LoadAdapter& command);
  void submit_unload(const wire::UnloadAdapter& command);

  void leave_queue_locked(const InstancePtr& instance);
  void expire_queued_locked();
  [[nodiscard]] base::TimePoint next_due_locked() const;
  void removal_worker();
  void remove(const InstancePtr& instance);

  const AgentConfig& config_;
  Sandboxes& sandboxes_;
  ImageService* images_;
  CompileCaches* caches_;
  TierDrivers& drivers_;
  EngineLogs logs_;
  EventQueue events_;
  FileWatch files_;
  std::atomic<unsigned> starts_under_way_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable start_ready_;
  std::condition_variable removal_ready_;
  std::condition_variable instance_gone_;
  std::map<base::InstanceId, InstancePtr> instances_;
  std::condition_variable transition_ready_;
  std::deque<InstancePtr> start_queue_;
  bool smallest_next_ = false;  ///< of start_queue_
  std::deque<InstancePtr> freeze_queue_;  ///< in stage freezing; no more than there are instances
  std::deque<InstancePtr> wake_queue_;    ///< in stage waking
  std::set<std::pair<base::TimePoint, base::InstanceId>> queued_deadlines_;  ///< of those in start_queue_
  std::multimap<base::TimePoint, InstancePtr> removals_;  ///< by when they are due
  bool closing_ = false;      ///< no new starts
  bool workers_end_ = false;

  std::unique_ptr<Watcher> watcher_;
  std::unique_ptr<PageFiller> filler_;
  CpuTurns cpu_turns_;
  DeviceHandover handover_;
  std::vector<std::thread> workers_;
  AdapterLoader adapters_;
};

}  // namespace thaw::node
