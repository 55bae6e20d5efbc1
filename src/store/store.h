#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "spec/role.h"

/// What must survive kill -9: models, tenants and keys (usage: usage.h). An interface, so that a cluster can keep the same on etcd.
namespace thaw::store {

struct StoredModel {
  base::ModelName name;
  std::string spec_json;               ///< spec::to_json
  std::int64_t created_unix_ms = 0;
  std::int64_t updated_unix_ms = 0;
  bool memory_estimated = false;       ///< spec's deviceMemory was estimated from the files, not given
  std::int64_t takeover_timeout_ms = 0;  ///< of one that waits for its files: as StoredRollout::timeout_ms; else of no meaning
};

/// One deploy of a changed spec. Kept after another one has taken its place, so that it can be gone back to.
struct StoredRevision {
  base::ModelName model;               ///< without the revision
  std::uint32_t number = 0;            ///< from 1
  std::string spec_json;               ///< spec::to_json
  base::ModelName runs_as;             ///< what its engines are called in the books (base/revision.h)
  bool memory_estimated = false;
  std::int64_t created_unix_ms = 0;
  std::int64_t served_unix_ms = 0;     ///< when it last became the one that serves; 0: never
  std::string failure;                 ///< why it did not; empty: it did, or nobody knows yet
  bool operator==(const StoredRevision&) const = default;
};

/// Which revisions of a model serve.
struct StoredRollout {
  base::ModelName model;
  std::uint32_t active = 0;            ///< number of the one that serves
  std::uint32_t candidate = 0;         ///< of the one that is to follow; 0: none
  std::uint32_t percent = 0;           ///< of requests that the candidate gets, or is to get once it is ready
  std::int64_t timeout_ms = 0;         ///< until the candidate has to be ready, as was asked for; 0: the default
  bool operator==(const StoredRollout&) const = default;
};

/// What changes together: all of it or nothing.
struct RolloutChange {
  StoredRollout rollout;
  std::vector<StoredModel> models;             ///< that are put, by the names they run under
  std::vector<base::ModelName> ended;          ///< ... and removed, with their files
  std::vector<StoredRevision> revisions;       ///< that are put
  std::vector<std::uint32_t> forgotten;        ///< ... and removed
};

/// One file of a model, as far as it tells from others. `changed_unix_ms` 0: as it was when the model was deployed. Else: what has been found
/// in its place since then.
struct StoredFile {
  std::string path;
  std::uint64_t bytes = 0;
  std::uint64_t mtime_ns = 0;          ///< since 1970
  std::uint64_t inode = 0;
  std::string sha256;                  ///< 64 hex digits; empty: not computed yet
  std::int64_t verified_unix_ms = 0;   ///< when it was last computed; 0: never
  std::int64_t changed_unix_ms = 0;
  bool operator==(const StoredFile&) const = default;
};

/// An API key as stored: never the secret, only SHA-256(salt || secret). A key is written "thaw_<id in base 36>_<secret>".
struct StoredKey {
  base::KeyId id;
  std::string name;                    ///< for people: "first key"
  base::TenantName tenant;
  std::string salt;                    ///< 16 random bytes
  std::string hash;                    ///< 32 bytes
  std::int64_t created_unix_ms = 0;
  spec::Role role = spec::Role::read_only;
  bool platform = false;               ///< not of its tenant alone: of all, and of the server
  std::vector<std::string> models{};   ///< the only ones that it is good for, as its tenant calls them; empty: all
  std::int64_t expires_unix_ms = 0;    ///< 0: never
  std::int64_t revoked_unix_ms = 0;    ///< 0: it was not; else hash and salt are gone
  std::int64_t last_used_unix_ms = 0;  ///< as far as was written; 0: never
};

/// A tenant as its operator declared it.
struct StoredTenant {
  base::TenantName name;
  std::string spec_json;               ///< spec::to_json
  std::int64_t created_unix_ms = 0, updated_unix_ms = 0;
};

/// Thread-safe: every call may come from any thread and may block for a disk write; never call it from the gateway's loop except
/// at start-up.
class Store {
 public:
  virtual ~Store() = default;

  virtual base::Status put_model(const StoredModel& model) = 0;               ///< inserts or replaces; durable on return
  virtual base::Result<bool> delete_model(const base::ModelName& name) = 0;   ///< with its files; false: there was none
  virtual base::Result<std::vector<StoredModel>> models() = 0;                ///< by name

  /// A model that waits for its files (controller/pulls.h). put_model of the same name, not older, ends the waiting; so does delete_model.
  virtual base::Status put_pending_model(const StoredModel& model) = 0;
  virtual base::Result<std::vector<StoredModel>> pending_models() = 0;        ///< by name

  /// A put model of the same name as a pending one, not older, ends that one's waiting: here by the rollout's model.
  virtual base::Status change_rollout(const RolloutChange& change) = 0;
  virtual base::Result<std::vector<StoredRevision>> revisions() = 0;          ///< by model and number
  virtual base::Result<std::vector<StoredRollout>> rollouts() = 0;            ///< by model
  /// With all its revisions, the models that they run as, and what waits for files. False: there was nothing.
  virtual base::Result<bool> delete_rollout(const base::ModelName& model) = 0;

  /// Replaces what is known of a model's files; of no effect when there is no such model.
  virtual base::Status put_model_files(const base::ModelName& name, const std::vector<StoredFile>& files) = 0;
  virtual base::Result<std::map<base::ModelName, std::vector<StoredFile>>> model_files() = 0;  ///< in the order in which they were put

  virtual base::Result<base::KeyId> add_key(const StoredKey& key) = 0;        ///< key.id is ignored; the new id is returned
  virtual base::Result<std::vector<StoredKey>> keys() = 0;                    ///< revoked and expired ones too
  virtual base::Result<bool> revoke_key(base::KeyId key, std::int64_t unix_ms) = 0;  ///< forgets its hash; false: there is none, or it was revoked
  /// The new key and, of the old one, when it ends (at once: it is revoked), in one transaction. The new id.
  virtual base::Result<base::KeyId> rotate_key(base::KeyId old, const StoredKey& key, std::int64_t old_ends_unix_ms, std::int64_t now_unix_ms) = 0;
  virtual base::Status touch_keys(const std::map<base::KeyId, std::int64_t>& used_unix_ms) = 0;

  virtual base::Status put_tenant(const StoredTenant& tenant) = 0;            ///< inserts or replaces
  virtual base::Result<bool> delete_tenant(const base::TenantName& name, std::int64_t unix_ms) = 0;  ///< and revokes its keys
  virtual base::Result<std::vector<StoredTenant>> tenants() = 0;              ///< by name; the default one only if it was changed

  /// A small number that stands for the model's name in usage rows for ever (also after the model was removed and deployed again).
  virtual base::Result<std::uint32_t> model_ref(const base::ModelName& name) = 0;

  /// Next value of a named counter that never repeats, also after kill -9 (instance ids). Reserves `count` values; returns the first.
  virtual base::Result<std::uint64_t> reserve_ids(const std::string& counter, std::uint64_t count) = 0;
};

/// Opens or creates `path` (SQLite, WAL). Migrates older schemas; refuses newer ones with the remedy. A corrupt file is a clear error.
base::Result<std::unique_ptr<Store>> open_sqlite(const std::string& path);

}  // namespace thaw::store
