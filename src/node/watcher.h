#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/process.h"

namespace thaw::node {

/// The problem: many engines, each of which may end or write at any moment, and one thread to notice. Calls back when a process
/// ended (after its last output was delivered), when it wrote, and when it outlived the time it was given.
/// Threads: one of its own, from which all callbacks come, never with a lock of the watcher's held; watch() and kill_at() from any thread.
class Watcher {
 public:
  struct Callbacks {
    std::function<void(base::InstanceId, Exit)> ended;    ///< once per watch(); the process is not reaped
    std::function<void(base::InstanceId)> engine_ended;   ///< once per watch_engine(), if that came before ended()
    std::function<void(base::InstanceId)> overdue;        ///< kill_at()'s time passed; again every second while it lives
  };
  using Output = std::function<void(std::string_view)>;

  static base::Result<std::unique_ptr<Watcher>> start(Callbacks callbacks);
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  /// `pidfd` is copied; `output` is taken over and read until the process ends.
  [[nodiscard]] base::Status watch(base::InstanceId instance, int pidfd, Fd output, Output on_output);
  /// Beside the process of watch() also the one in it that matters: where all stand still, the first cannot tell of the
  /// second's end. Again for the same instance: does nothing, nor for one that has ended.
  [[nodiscard]] base::Status watch_engine(base::InstanceId instance, pid_t engine);
  /// overdue() when the process is still there at `when`. Does nothing for a process that has ended.
  void kill_at(base::InstanceId instance, base::TimePoint when);

 private:
  struct Entry {
    Fd pidfd;
    Fd output;
    Fd engine;
    Output on_output;
    std::optional<base::TimePoint> kill_at;
  };

  Watcher(Callbacks callbacks, Fd epoll, Fd wake);
  void loop();
  void handle(std::uint64_t tag);
  void report_overdue();
  [[nodiscard]] int timeout_ms() const;
  [[nodiscard]] base::Status add(int fd, std::uint64_t tag) const;
  void wake() const;

  Callbacks callbacks_;
  Fd epoll_;
  Fd wake_;
  mutable std::mutex mutex_;
  std::map<base::InstanceId, std::shared_ptr<Entry>> entries_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace thaw::node
