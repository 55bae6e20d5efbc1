#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "spec/model_spec.h"

/// The problem: vLLM, SGLang and CUDA compile for minutes what they compiled the last time, because their sandbox, and
/// with it their cache directory, is gone. So each finds its directory again at its next start. What lies there is code
/// that will be run: it is never shown to another tenant's, another model's, another engine's or another kind of
/// device's replica, and not to two replicas at once (they run as different users, and would write into each other's):
///
///     <data_dir>/compile-caches/<tenant>/<model>/<engine>-<device>/<n>/files/    shown to a replica; <n>: 0 for the
///     only one, 1 for a second beside it …
///                                                                 /<n>/state     "BYTES UNIX_S": its size after the
///                                                                 last use, and when that was
///
/// Together they keep within a budget: when a replica ends, what was unused for longest goes, and one that is larger
/// than the budget by itself goes too. What is in use stays, but is emptied under its engine when it alone has outgrown
/// the budget; a thread of its own looks for that.
namespace thaw::node {

class CompileCaches {
 public:
  /// Whose cache.
  struct Key {
    base::TenantName tenant;
    base::ModelName model;
    spec::EngineKind engine = spec::EngineKind::llama_cpp;
    spec::DeviceKind device = spec::DeviceKind::cpu;
  };

  /// The use of one directory by one replica, until the object's end. Ends before the CompileCaches.
  class Lease {
   public:
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    [[nodiscard]] const std::string& directory() const { return directory_; }
    /// All in it belongs to this user from now on. Call before the engine runs. One that is too large to be walked is
    /// emptied.
    [[nodiscard]] base::Status give_to(std::uint32_t uid) const;

   private:
    friend class CompileCaches;
    Lease(CompileCaches& owner, std::string slot);
    CompileCaches& owner_;
    std::string slot_;
    std::string directory_;
  };

  struct Settings {
    std::string directory;                          ///< <data_dir>/compile-caches, made if absent, mode 0700
    std::uint64_t budget_bytes = 0;                 ///< all together; 0: none are kept
    base::Duration look_every = base::Seconds(30);  ///< at those in use
  };

  /// Finds what an earlier life left; measures what has no state. Blocking.
  static base::Result<std::unique_ptr<CompileCaches>> open(Settings settings);
  ~CompileCaches();
  CompileCaches(const CompileCaches&) = delete;
  CompileCaches& operator=(const CompileCaches&) = delete;

  /// The directory of a replica; made when there is none that nobody uses. Any thread; blocking.
  base::Result<std::unique_ptr<Lease>> lease(const Key& key);

  /// Removes all of a model's, soon, and what is in use when its replica ends. Any thread; never blocks.
  void forget(const base::TenantName& tenant, const base::ModelName& model);

  [[nodiscard]] std::uint64_t bytes() const;  ///< as of the last use of each

 private:
  struct Slot {
    std::uint64_t bytes = 0;
    std::int64_t used_unix_s = 0;
    std::uint64_t used_order = 0;  ///< tells two of the same second apart
    bool in_use = false;
    bool condemned = false;  ///< goes when its use ends
  };

  explicit CompileCaches(Settings settings) : settings_(std::move(settings)) {}
  using Names = std::pair<base::TenantName, base::ModelName>;

  void find_slots();
  void run();
  void forget_now(const Names& names);
  void look_at_used();
  void release(const std::string& slot);
  void remove_locked(const std::string& slot, const std::string& why);
  void keep_to_budget_locked();

  Settings settings_;
  mutable std::mutex mutex_;           ///< held while something is removed: a lease may wait for that
  std::map<std::string, Slot> slots_;  ///< by directory of the slot
  std::uint64_t uses_ = 0;

  std::mutex orders_mutex_;
  std::condition_variable ordered_;
  std::set<Names> to_forget_;  ///< at most one entry a model
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace thaw::node
