#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "controller/adapter_load.h"
#include "controller/service_share.h"
#include "net/socket.h"
#include "wire/messages.h"

namespace thaw::controller {

/// One instance as the relay sees it: where it listens, and connections to it that are open and unused. Shared by the controller (while the instance
/// is ready) and the requests in flight on it. Loop thread only.
class Replica {
 public:
  /// Where it stands, for metrics; requests are sent to it when the scheduler says so.
  enum class Stage { rising, ready, freezing, standby, imaging, ended };

  /// `now`: when its start (or, with `stage` imaging, its image) was ordered.
  Replica(base::InstanceId instance, base::ModelName model, base::TimePoint now, Stage stage = Stage::rising)
      : instance_(instance), model_(std::move(model)), stage_(stage), ordered_at_(now) {}

  [[nodiscard]] base::InstanceId instance() const { return instance_; }
  [[nodiscard]] const base::ModelName& model() const { return model_; }
  [[nodiscard]] Stage stage() const { return stage_; }
  /// Where it is: "cuda0+cuda1" of a node. Said once, when it is begun.
  void stands_on(base::NodeName node, std::string devices) {
    node_ = std::move(node);
    devices_ = std::move(devices);
  }
  [[nodiscard]] const base::NodeName& node() const { return node_; }
  [[nodiscard]] const std::string& devices() const { return devices_; }
  /// When its present transition, or the last one, was ordered; phases() count from here once it is ready.
  [[nodiscard]] base::TimePoint ordered_at() const { return ordered_at_; }
  [[nodiscard]] base::TimePoint ready_at() const { return ready_at_; }
  /// Of the way up that it last came.
  [[nodiscard]] const std::vector<wire::Phase>& phases() const { return phases_; }
  [[nodiscard]] wire::Way way() const { return way_; }
  /// Why it came up, and by this way: "first request; restores in 0.4 s, starts in 2 s".
  [[nodiscard]] const std::string& why() const { return why_; }

  /// Its start, restore or wake was ordered.
  void rises(wire::Way way, std::string why, base::TimePoint now);
  void became_ready(const wire::InstanceReady& event, base::TimePoint now);
  /// What came in beside the start, before it was ready or after.
  void add_phase(wire::Phase phase) { phases_.push_back(std::move(phase)); }
  /// Its freeze was ordered: idle connections are closed, and none is kept.
  void freezes(base::TimePoint now);
  void became_standby() { stage_ = Stage::standby; }
  void stays_ready() { stage_ = Stage::ready; }
  /// It ends: no new connection from here on; idle ones are closed.
  void close();
  /// The engine is gone: as close(), and whoever is in the middle of an answer finds its connection ended. A Unix socket ends
  /// with its engine by itself; a TCP peer that vanished with its sandbox's network says nothing more.
  void cut();

  /// How the requests that it serves at once share its device's time.
  ServiceShare& service() { return service_; }
  /// How long its last way up took: told once, to whom that is charged, and 0 from then on.
  base::Duration claim_start() { return std::exchange(unclaimed_start_, base::Duration::zero()); }

  /// The adapter in its engine, or on its way there; null: neither.
  [[nodiscard]] std::shared_ptr<AdapterLoad> adapter(const base::ModelName& name) const;
  /// It was ordered. One that fails is forgotten when it ends: the next request tries again.
  std::shared_ptr<AdapterLoad> loads(const base::ModelName& name);
  void adapter_loaded(const base::ModelName& name, const std::string& error);
  /// It is to be told of no more. False: it has no such one.
  bool forget_adapter(const base::ModelName& name) { return adapters_.erase(name) > 0; }

  using SocketPtr = std::shared_ptr<net::Socket>;  ///< one owner: the relay, or the idle list
  struct Connection {
    SocketPtr socket;
    bool reused = false;  ///< it may have been closed by the engine just now: a failure before the first byte is no verdict on the replica
  };
  /// An idle connection, or a new one.
  base::Result<Connection> connect(net::Loop& loop);
  base::Result<Connection> connect_fresh(net::Loop& loop);
  /// Hands a connection back after a complete answer. Kept up to kMaxIdle, while the engine keeps its end open.
  void keep(SocketPtr socket);

 private:
  static constexpr std::size_t kMaxIdle = 256;

  base::InstanceId instance_;
  base::ModelName model_;
  base::NodeName node_;
  std::string devices_;
  Stage stage_;
  base::TimePoint ordered_at_;
  base::TimePoint ready_at_{};
  wire::Way way_ = wire::Way::start;
  std::string why_;
  std::optional<net::Dialer> dialer_;  ///< absent: its address cannot be dialled, address_error_ says why
  std::optional<base::Error> address_error_;
  std::vector<wire::Phase> phases_;
  void lose_adapters();

  std::map<base::ModelName, std::shared_ptr<AdapterLoad>> adapters_;  ///< since it last came up
  ServiceShare service_;
  base::Duration unclaimed_start_{};
  bool closed_ = false;
  std::vector<SocketPtr> idle_;
  std::vector<std::weak_ptr<net::Socket>> given_;  ///< all that may live, for cut(); swept when it has doubled
  std::size_t sweep_at_ = kMaxIdle;
};

}  // namespace thaw::controller
