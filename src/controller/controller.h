#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/scheduler.h"
#include "controller/cache_keeper.h"
#include "controller/model_events.h"
#include "controller/ticket.h"
#include "net/loop.h"
#include "node/agent.h"
#include "observe/metrics.h"

namespace thaw::controller {

/// A deployed model as the control plane knows it.
struct ModelEntry {
  spec::ModelSpec spec;          ///< device_memory_bytes set
  std::uint64_t weights_bytes = 0;
  std::uint32_t usage_ref = 0;   ///< Store::model_ref
  std::int64_t created_unix_ms = 0, updated_unix_ms = 0;
  bool memory_estimated = false; ///< device_memory_bytes is an estimate: it follows the files
  observe::ModelProbe* probe = nullptr;
  std::vector<std::string> alias_names{};  ///< spec.aliases as the gateway looks them up, with the tenant; set by Controller::deploy
  bool takes_over = false;       ///< a replica of it is kept for as long as it is to take over from another revision, not because its spec says so
};

/// Told by the controller what nodes say of models' files, and when they matter. Loop thread.
class FilesListener {
 public:
  virtual void files_seen(const base::ModelName& model, const std::vector<wire::FileStamp>& files) = 0;  ///< by a start
  virtual void files_changed(const base::ModelName& model, const wire::FilesChanged& change) = 0;        ///< under a replica
  virtual void model_loaded(const base::ModelName& model) = 0;                                           ///< a replica is ready
  virtual void file_hashed(const wire::FileHashed& answer) = 0;

 protected:
  ~FilesListener() = default;
};

/// The effectful half of control/: feeds real events and real time to the Scheduler and carries its actions out, by messages to nodes and by
/// resolving tickets. Loop thread only; it takes no lock and does no I/O itself.
class Controller {
 public:
  using SendToNode = std::function<void(const base::NodeName&, wire::NodeCommand)>;

  Controller(net::Loop& loop, observe::Metrics& metrics, control::Policy policy, std::uint64_t first_instance, SendToNode send);
  ~Controller();
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  // --- nodes
  void node_joined(const wire::NodeHello& hello);
  void node_event(const wire::NodeEvent& event);

  /// At most one; null: none. Must outlive the controller, or be taken away first.
  void tell_of_files(FilesListener* listener) { files_ = listener; }

  // --- models
  [[nodiscard]] base::Status can_ever_run(const spec::ModelSpec& spec) const { return scheduler_.can_ever_run(spec); }
  /// `told`: false for a further step of a deploy that is among the events already.
  void deploy(ModelEntry entry, bool told = true);
  bool remove(const base::ModelName& name);
  void stop(const base::ModelName& name, bool kill);
  /// By hand; see the scheduler's functions of these names.
  base::Result<std::uint32_t> freeze(const base::ModelName& name);
  base::Result<bool> wake(const base::ModelName& name);
  base::Result<base::ImageId> snapshot(const base::ModelName& name);
  /// A start found its file to be another one than it was: images made of that are dropped.
  void file_differs(const base::ModelName& name, const std::string& difference);
  base::Status drop_image(const base::ImageId& image);
  base::Result<std::uint32_t> set_duty(const base::NodeName& node, const base::DeviceId& device, control::Duty duty);
  /// What a tenant may have of the devices; see the scheduler's functions of these names.
  base::Status set_tenant(const control::TenantPolicy& policy);
  void forget_tenant(const base::TenantName& tenant);
  [[nodiscard]] std::vector<control::TenantView> tenants() const;
  [[nodiscard]] const ModelEntry* find(const base::ModelName& name) const;
  [[nodiscard]] const std::map<base::ModelName, std::shared_ptr<ModelEntry>>& models() const { return models_; }
  /// Names of the models that are adapters of `base` (without a revision), in order.
  [[nodiscard]] const std::set<base::ModelName>& adapters(const base::ModelName& base) const;
  /// By its name or one of its aliases, with the tenant.
  [[nodiscard]] std::shared_ptr<ModelEntry> share(std::string_view name) const;

  /// What happened to the models, and why. Of those that are deployed.
  [[nodiscard]] const ModelEvents& events() const { return events_; }
  /// Nothing is noted of a model that is not deployed.
  void note(const base::ModelName& model, ModelEvent event);
  /// What would become of a request now; nothing changes. The model must be deployed.
  [[nodiscard]] control::Explanation explain(const base::ModelName& model, const base::TenantName& asker,
                                             std::optional<spec::Priority> priority = {}) const {
    return scheduler_.explain(model, asker, priority, loop_.now());
  }

  // --- weights in host memory
  /// Of the node's page cache; null before a node has joined. (One node in this version: with more, one each.)
  [[nodiscard]] CacheKeeper* cache() { return caches_.empty() ? nullptr : caches_.begin()->second.get(); }

  // --- requests: arrived, (wait on the ticket, answering | failed)*, ended
  /// `affinity`, `priority`, `adapter`: control::Arrival's.
  void arrived(Ticket& ticket, const base::ModelName& model, const base::TenantName& tenant, std::uint64_t affinity = 0,
               std::optional<spec::Priority> priority = {}, const base::ModelName& adapter = {});
  /// For a request that was granted the replica: the adapter in its engine, ordered unless it was already. Ends within kAdapterDeadline, and with the replica.
  std::shared_ptr<AdapterLoad> load_adapter(Replica& replica, const base::ModelName& adapter);
  static constexpr base::Duration kAdapterDeadline = base::Seconds(60);
  void answering(Ticket& ticket);
  /// The engine answered that it cannot (HTTP 5xx). Before ended.
  void engine_error(const Ticket& ticket) { scheduler_.request_engine_error(ticket.id()); }
  /// With no byte sent the ticket is open again: wait on it. Once it was answering, this is its end.
  void failed(Ticket& ticket, control::RequestFailure failure);
  /// Also for a ticket still waiting (the client left). Not after a refusal.
  void ended(Ticket& ticket);

  void drain();
  [[nodiscard]] const control::Scheduler& scheduler() const { return scheduler_; }
  /// Tickets that are neither granted nor refused.
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

 private:
  void unlist(const ModelEntry& entry);
  void unload_adapter(const base::ModelName& adapter);
  void carry_out();
  void arm_timer();
  void update_reserved();
  void perform(const control::Start& action);
  void perform(const control::Stop& action);
  void perform(const control::Dispatch& action);
  void perform(const control::Refuse& action);
  void perform(const control::Freeze& action);
  void perform(const control::Wake& action);
  void perform(const control::Snapshot& action);
  void perform(const control::Drop& action);

  // node_events.cpp
  void on(const wire::InstanceReady& event);
  void on(const wire::InstanceDown& event);
  void on(const wire::InstanceGone& event);
  void on(const wire::InstanceStandby& event);
  void on(const wire::FreezeFailed& event);
  void on(const wire::SnapshotTaken& event);
  void on(const wire::SnapshotFailed& event);
  void on(const wire::ImageGone& event);
  void on(const wire::InstanceWeights& event);
  void on(const wire::WeightsState& event);
  void on(const wire::WeightsEvicted& event);
  void on(const wire::FileHashed& event);
  void on(const wire::AdapterLoaded& event);
  void on(const wire::FilesSeen& event);
  void on(const wire::FilesChanged& event);
  [[nodiscard]] Replica* replica(base::InstanceId id) const;
  [[nodiscard]] bool is_deployed(const base::ModelName& model) const;
  void note_transition(const Replica& of, const char* result);
  void note(const Replica& of, ModelEvent::Kind kind, std::string reason, control::Cause cause = {}, std::optional<base::Duration> took = {});
  void uses_weights(const base::NodeName& node, base::InstanceId instance, const spec::ModelSpec& model);
  void note_weights(Replica& replica, const wire::Phase& phase);

  net::Loop& loop_;
  observe::Metrics& metrics_;
  base::Duration stop_grace_;
  control::Scheduler scheduler_;
  SendToNode send_;
  net::Timer timer_;
  std::map<base::ModelName, std::shared_ptr<ModelEntry>> models_;  ///< shared with the requests that use it
  std::map<base::ModelName, std::set<base::ModelName>> adapters_;  ///< by their base; never empty ones
  std::unordered_map<std::string_view, std::shared_ptr<ModelEntry>> by_name_;  ///< keys point into the entries
  std::unordered_map<base::InstanceId, std::shared_ptr<Replica>> replicas_;
  std::unordered_map<base::RequestId, Ticket*> waiting_;
  Ticket* arriving_ = nullptr;  ///< resolved in place, without a way through waiting_
  control::Actions actions_;
  FilesListener* files_ = nullptr;
  ModelEvents events_;
  std::map<base::NodeName, std::unique_ptr<CacheKeeper>> caches_;
  bool reservations_changed_ = false;
};

}  // namespace thaw::controller
