#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "net/socket.h"
#include "wire/messages.h"

namespace thaw::controller {

/// One instance as the relay sees it: where it listens, and connections to it that are open and unused. Shared by the controller (while the instance
/// is ready) and the requests in flight on it. Loop thread only.
class Replica {
 public:
  Replica(base::InstanceId instance, base::ModelName model, base::TimePoint started)
      : instance_(instance), model_(std::move(model)), started_(started) {}

  [[nodiscard]] base::InstanceId instance() const { return instance_; }
  [[nodiscard]] const base::ModelName& model() const { return model_; }
  /// When its start was ordered; phases() count from here.
  [[nodiscard]] base::TimePoint started() const { return started_; }
  [[nodiscard]] base::TimePoint ready_at() const { return ready_at_; }
  [[nodiscard]] const std::vector<wire::Phase>& phases() const { return phases_; }

  void became_ready(const wire::InstanceReady& event, base::TimePoint now);
  /// What came in beside the start, before it was ready or after.
  void add_phase(wire::Phase phase) { phases_.push_back(std::move(phase)); }
  /// No new connection from here on; idle ones are closed.
  void close();

  struct Connection {
    std::unique_ptr<net::Socket> socket;
    bool reused = false;  ///< it may have been closed by the engine just now: a failure before the first byte is no verdict on the replica
  };
  /// An idle connection, or a new one.
  base::Result<Connection> connect(net::Loop& loop);
  base::Result<Connection> connect_fresh(net::Loop& loop);
  /// Hands a connection back after a complete answer. Kept up to kMaxIdle, while the engine keeps its end open.
  void keep(std::unique_ptr<net::Socket> socket);

 private:
  static constexpr std::size_t kMaxIdle = 256;

  base::InstanceId instance_;
  base::ModelName model_;
  base::TimePoint started_;
  base::TimePoint ready_at_{};
  std::string socket_path_;
  std::vector<wire::Phase> phases_;
  bool closed_ = false;
  std::vector<std::unique_ptr<net::Socket>> idle_;
};

}  // namespace thaw::controller
