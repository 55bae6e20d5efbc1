#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controller/controller.h"
#include "controller/model_files.h"
#include "controller/rollouts.h"
#include "net/worker.h"
#include "node/agent.h"
#include "node/pull/blob_store.h"
#include "node/pull/puller.h"
#include "store/store.h"

namespace thaw::controller {

/// A model that was deployed and whose files are on their way. An older spec of the same name serves meanwhile.
struct PendingModel {
  spec::ModelSpec spec;
  std::int64_t created_unix_ms = 0, updated_unix_ms = 0;
  base::Duration takeover_timeout = control::RolloutSettings{}.timeout;  ///< where an older spec serves: from when its files are there
  std::uint64_t pull = 0;              ///< id of the pull; 0: it could not be begun
  std::string path;                    ///< what was pulled, once it is looked into
  std::optional<base::Error> failure;  ///< why it ended
  base::TimePoint retry_at = base::never();
  std::uint32_t failures = 0;    ///< in a row
  std::uint64_t generation = 0;  ///< tells it from an earlier one of the same name
};

/// Pulls what deployed models need, and puts each model in service when its files are there: deployed (stored as pending) → pulled → looked into → in
/// the books. A pending model survives a restart, and its pull goes on from what was durable. What failed for a reason that passes is tried again,
/// later and later; the rest waits for somebody to mend it. Loop thread only; what blocks is done elsewhere.
class Pulls {
 public:
  struct Surroundings {
    net::Loop& loop;
    Controller& controller;
    store::Store& store;
    net::Worker& store_worker;  ///< one thread: what it is given is done in order
    net::Worker& files_worker;
    observe::Metrics& metrics;
    ModelFiles& model_files;
    Rollouts* rollouts = nullptr;  ///< brings what was pulled into service; nullptr: models have no revisions
    node::pull::BlobStore& blobs;
    node::pull::PullerOptions options;
    ModelFiles::Inspect inspect = node::inspect_model;
  };
  static constexpr base::Duration kFirstRetry = base::Seconds(30);
  static constexpr base::Duration kLongestRetry = base::Seconds(3600);

  explicit Pulls(Surroundings surroundings);
  ~Pulls();
  Pulls(const Pulls&) = delete;
  Pulls& operator=(const Pulls&) = delete;

  /// What earlier runs left pending, and models whose pulled files are gone. Blocking; at start-up, after the models were found again.
  base::Status load();

  /// Whether a spec has to wait for a pull. Else its source has a path: its own, or that of what was pulled before. Any thread; waits for the disk.
  [[nodiscard]] bool must_wait(spec::ModelSpec& spec) const;
  /// Begins its pull. After it was stored as pending (store.put_pending_model).
  void add(spec::ModelSpec spec, std::int64_t created_unix_ms, std::int64_t updated_unix_ms,
           base::Duration takeover_timeout = control::RolloutSettings{}.timeout);
  /// Pulls a model's source again: of a pending one, or to see whether the hub has a newer one. Its id.
  base::Result<std::uint64_t> pull_model(const base::ModelName& name);
  /// It was removed, or deployed in another way. False: it was not pending. The store's row is the caller's to drop.
  bool forget(const base::ModelName& name);

  [[nodiscard]] const PendingModel* find(const base::ModelName& name) const;
  /// The one that a client means by `name`, which may be an alias.
  [[nodiscard]] const PendingModel* meant(const base::ModelName& name) const;
  [[nodiscard]] const std::map<base::ModelName, PendingModel>& pending() const { return pending_; }
  /// Models that wait for this pull.
  [[nodiscard]] std::vector<base::ModelName> waiting_for(std::uint64_t pull) const;

  [[nodiscard]] node::pull::Puller& puller() { return *puller_; }
  [[nodiscard]] node::pull::BlobStore& blobs() { return in_.blobs; }
  /// Paths of pulled weights that deployed models have.
  [[nodiscard]] std::vector<std::string> used_paths() const;

 private:
  void begin(PendingModel& model, bool refresh);
  void ended(const node::pull::PullView& view);
  void look_into(const base::ModelName& name, const node::pull::PullView& view);
  void looked_into(const base::ModelName& name, std::uint64_t generation, spec::ModelSpec spec, const base::Result<node::ModelFacts>& facts);
  /// The entry that serves a model.
  [[nodiscard]] const ModelEntry* serving(const base::ModelName& name) const;
  void roll_out(const base::ModelName& name, std::uint64_t generation, ModelEntry entry, const std::vector<wire::FileStamp>& files);
  void put_in_service(const base::ModelName& name, std::uint64_t generation, ModelEntry entry, const std::vector<wire::FileStamp>& files,
                      const base::Result<std::uint32_t>& usage_ref);
  void fail(PendingModel& model, const base::Error& error);
  void retry_due();
  PendingModel* find(const base::ModelName& name, std::uint64_t generation);

  Surroundings in_;
  std::map<base::ModelName, PendingModel> pending_;
  std::uint64_t next_generation_ = 1;
  net::Timer retry_timer_;
  std::unique_ptr<node::pull::Puller> puller_;  ///< ended first: its threads post to the loop
};

}  // namespace thaw::controller
