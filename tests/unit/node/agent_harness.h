#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "node/agent.h"
#include "wire/messages.h"

/// Tests of the agent: a real agent with real sandboxes and control groups, the fake engine inside.
namespace thaw::node::test {

inline constexpr auto kPatience = base::Seconds(60);  ///< for what takes milliseconds on an idle machine

/// Polls until `condition` holds; false when it does not within kPatience.
bool eventually(const std::function<bool()>& condition);

/// A fresh directory below /tmp, removed with its contents at the end.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Why sandboxes cannot be tested here; empty when they can.
std::string cannot_sandbox(spec::SandboxKind kind = spec::SandboxKind::runc);

/// The smallest file that passes for a model where nobody runs it.
std::string write_tiny_model(const std::string& directory);

/// Everything that the agents of this machine have made: names of control groups, runtime state and sandboxes' files below `label`'s places,
/// and mounts and processes that mention it. Empty is what must be left.
std::vector<std::string> traces_of(const std::string& data_dir);

/// Processes of `data_dir`'s control groups.
std::vector<pid_t> sandboxed_pids(const std::string& data_dir);

/// Records events and waits for them.
class Events {
 public:
  void push(wire::NodeEvent event);
  /// The first event of this kind for this instance, or a later one; nothing when it does not come before InstanceGone or within kPatience.
  template <typename T>
  std::optional<T> wait(base::InstanceId instance, int which = 1) {
    std::unique_lock lock(mutex_);
    std::optional<T> found;
    changed_.wait_for(lock, kPatience, [&] {
      bool gone = false;
      int matches = 0;
      for (const wire::NodeEvent& event : all_) {
        const T* match = std::get_if<T>(&event);
        if (match != nullptr && match->instance == instance && ++matches == which) found = *match;
        const auto* last = std::get_if<wire::InstanceGone>(&event);
        gone = gone || (last != nullptr && last->instance == instance);
      }
      return found.has_value() || gone;
    });
    return found;
  }
  /// Waits for the first event of any of these kinds, as wait(); false: none came.
  template <typename... T>
  bool wait_any(base::InstanceId instance) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] {
      for (const wire::NodeEvent& event : all_)
        if (((std::get_if<T>(&event) != nullptr && std::get_if<T>(&event)->instance == instance) || ...)) return true;
      return false;
    });
  }
  /// The first event of this kind about this image, as wait().
  template <typename T>
  std::optional<T> wait_image(const base::ImageId& image) {
    std::unique_lock lock(mutex_);
    std::optional<T> found;
    changed_.wait_for(lock, kPatience, [&] {
      for (const wire::NodeEvent& event : all_)
        if (const T* match = std::get_if<T>(&event); match != nullptr && match->image == image && !found) found = *match;
      return found.has_value();
    });
    return found;
  }
  template <typename T>
  [[nodiscard]] bool has(base::InstanceId instance) const {
    const std::lock_guard lock(mutex_);
    for (const wire::NodeEvent& event : all_)
      if (const T* match = std::get_if<T>(&event); match != nullptr && match->instance == instance) return true;
    return false;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<wire::NodeEvent> all_;
};

/// A data directory, a model, and an agent on them.
class TestNode {
 public:
  explicit TestNode(spec::SandboxKind sandbox = spec::SandboxKind::runc, std::uint32_t pool = 0);

  [[nodiscard]] base::Status open();
  void close() { agent_.reset(); }
  Agent& agent() { return *agent_; }
  Events& events() { return events_; }
  [[nodiscard]] const wire::NodeHello& hello() const { return hello_; }  ///< of the last open()
  [[nodiscard]] const std::string& data_dir() const { return data_dir_; }
  [[nodiscard]] std::string model_path() const { return model_path_; }
  AgentConfig& config() { return config_; }

  /// A start command for the next instance, with these arguments for the fake engine.
  wire::StartInstance start_command(std::vector<std::string> engine_args = {});
  /// Starts and waits for it to be ready; records a test failure otherwise.
  base::InstanceId start_ready(std::vector<std::string> engine_args = {});
  void stop(base::InstanceId instance, base::Duration grace = base::Seconds(5)) {
    agent_->submit(wire::StopInstance{instance, grace});
  }

 private:
  TempDir directory_;
  std::string data_dir_;
  std::string model_path_;
  AgentConfig config_;
  wire::NodeHello hello_;
  Events events_;
  std::unique_ptr<Agent> agent_;
  std::uint64_t started_ = 0;
};

/// One HTTP exchange with whoever answers at `address` (base/endpoint.h): the answer's bytes, empty when there was none.
std::string http_get(const std::string& address, const std::string& path);
/// The same for a whole request, whose answer ends with the connection.
std::string http_send(const std::string& address, const std::string& request);

}  // namespace thaw::node::test
