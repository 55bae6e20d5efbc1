#include <algorithm>
#include <cerrno>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/sqlite/database.h"
#include "store/sqlite/schema.h"
#include "store/store.h"

namespace thaw::store {
namespace {

/// Models' names, which hold no comma.
std::string join_words(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

std::vector<std::string> split_words(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

constexpr mode_t kOwnerOnly = 0600;  // hashes of keys, and who asked what when

class SqliteStore : public Store {
 public:
  explicit SqliteStore(Database database) : database_(std::move(database)) {}

  base::Status prepare() {
    const std::vector<std::pair<Statement*, std::string>> statements{
        {&put_model_,
         "INSERT INTO models(name, spec_json, created_unix_ms, updated_unix_ms, memory_estimated) "
         "VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(name) DO UPDATE SET "
         "spec_json = ?2, created_unix_ms = ?3, updated_unix_ms = ?4, memory_estimated = ?5"},
        {&delete_model_, "DELETE FROM models WHERE name = ?1 RETURNING 1"},
        {&models_, "SELECT name, spec_json, created_unix_ms, updated_unix_ms, memory_estimated FROM models ORDER BY name"},
        {&put_pending_,
         "INSERT INTO pending_models VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(name) DO UPDATE SET "
         "spec_json = ?2, created_unix_ms = ?3, updated_unix_ms = ?4, memory_estimated = ?5, takeover_timeout_ms = ?6"},
        {&delete_pending_, "DELETE FROM pending_models WHERE name = ?1 AND updated_unix_ms <= ?2"},
        {&pending_,
         "SELECT name, spec_json, created_unix_ms, updated_unix_ms, memory_estimated, takeover_timeout_ms FROM pending_models ORDER BY name"},
        {&delete_files_, "DELETE FROM model_files WHERE model = ?1"},
        {&add_file_,
         "INSERT INTO model_files SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE EXISTS(SELECT 1 FROM models WHERE "
         "name = ?1)"},
        {&files_,
         "SELECT model, path, bytes, mtime_ns, inode, sha256, verified_unix_ms, changed_unix_ms FROM model_files ORDER "
         "BY model, position"},
        {&add_key_,
         "INSERT INTO keys(name, tenant, salt, hash, created_unix_ms, role, platform, models, expires_unix_ms) "
         "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"},
        {&keys_,
         "SELECT id, name, tenant, salt, hash, created_unix_ms, role, platform, models, expires_unix_ms, revoked_unix_ms, last_used_unix_ms "
         "FROM keys ORDER BY id"},
        {&revoke_key_, "UPDATE keys SET revoked_unix_ms = ?2, salt = x'', hash = x'' WHERE id = ?1 AND revoked_unix_ms = 0 RETURNING 1"},
        {&expire_key_,
         "UPDATE keys SET expires_unix_ms = CASE WHEN expires_unix_ms = 0 THEN ?2 ELSE min(expires_unix_ms, ?2) END "
         "WHERE id = ?1 AND revoked_unix_ms = 0 RETURNING 1"},
        {&touch_key_, "UPDATE keys SET last_used_unix_ms = ?2 WHERE id = ?1 AND last_used_unix_ms < ?2"},
        {&revoke_keys_of_, "UPDATE keys SET revoked_unix_ms = ?2, salt = x'', hash = x'' WHERE tenant = ?1 AND revoked_unix_ms = 0"},
        {&put_tenant_,
         "INSERT INTO tenants(name, spec_json, created_unix_ms, updated_unix_ms) VALUES(?1, ?2, ?3, ?4) ON CONFLICT(name) DO UPDATE SET "
         "spec_json = ?2, created_unix_ms = ?3, updated_unix_ms = ?4"},
        {&delete_tenant_, "DELETE FROM tenants WHERE name = ?1 RETURNING 1"},
        {&tenants_, "SELECT name, spec_json, created_unix_ms, updated_unix_ms FROM tenants ORDER BY name"},
        {&put_revision_,
         "INSERT INTO revisions VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT(model, number) DO UPDATE SET "
         "spec_json = ?3, runs_as = ?4, memory_estimated = ?5, created_unix_ms = ?6, served_unix_ms = ?7, failure = ?8"},
        {&delete_revision_, "DELETE FROM revisions WHERE model = ?1 AND number = ?2"},
        {&delete_revisions_, "DELETE FROM revisions WHERE model = ?1"},
        {&runs_as_, "SELECT name FROM models WHERE name = ?1 OR substr(name, 1, length(?1) + 1) = ?1 || '@'"},
        {&revisions_,
         "SELECT model, number, spec_json, runs_as, memory_estimated, created_unix_ms, served_unix_ms, failure FROM revisions ORDER BY model, number"},
        {&put_rollout_,
         "INSERT INTO rollouts VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(model) DO UPDATE SET active = ?2, candidate = ?3, percent = ?4, timeout_ms = ?5"},
        {&delete_rollout_, "DELETE FROM rollouts WHERE model = ?1"},
        {&rollouts_, "SELECT model, active, candidate, percent, timeout_ms FROM rollouts ORDER BY model"},
        {&find_ref_, "SELECT ref FROM model_refs WHERE name = ?1"},
        {&add_ref_, "INSERT INTO model_refs(name) VALUES(?1)"},
        {&reserve_ids_,
         "INSERT INTO counters VALUES(?1, 1 + ?2) ON CONFLICT(name) DO UPDATE SET next = next + ?2 RETURNING next - "
         "?2"},
        {&begin_, "BEGIN IMMEDIATE"},
        {&commit_, "COMMIT"},
        {&rollback_, "ROLLBACK"}};
    for (const auto& [statement, sql] : statements) {
      THAW_ASSIGN_OR_RETURN(*statement, database_.prepare(sql));
    }
    return {};
  }

  base::Status put_model(const StoredModel& model) override {
    const std::lock_guard lock(mutex_);
    const auto status = transaction([&]() -> base::Status {
      THAW_RETURN_IF_ERROR(delete_pending_.run(model.name.str(), model.updated_unix_ms));
      return put_model_.run(model.name.str(), model.spec_json, model.created_unix_ms, model.updated_unix_ms, model.memory_estimated);
    });
    return explain(status, "cannot store model " + model.name.str());
  }

  base::Status put_pending_model(const StoredModel& model) override {
    const std::lock_guard lock(mutex_);
    return explain(put_pending_.run(model.name.str(), model.spec_json, model.created_unix_ms, model.updated_unix_ms, model.memory_estimated,
                                    model.takeover_timeout_ms),
                   "cannot store model " + model.name.str());
  }

  base::Result<std::vector<StoredModel>> pending_models() override {
    const std::lock_guard lock(mutex_);
    std::vector<StoredModel> all;
    const auto status = pending_.each([&](const Row& row) {
      all.push_back({base::ModelName(row.bytes(0)), row.bytes(1), row.integer(2), row.integer(3), row.integer(4) != 0, row.integer(5)});
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot read the models that wait for their files"));
    return all;
  }

  base::Result<bool> delete_model(const base::ModelName& name) override {
    const std::lock_guard lock(mutex_);
    bool deleted = false;
    const auto status = transaction([&]() -> base::Status {
      THAW_RETURN_IF_ERROR(delete_files_.run(name.str()));
      THAW_RETURN_IF_ERROR(delete_pending_.run(name.str(), std::numeric_limits<std::int64_t>::max()));
      return delete_model_.each([&](const Row&) { deleted = true; }, name.str());
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot delete model " + name.str()));
    return deleted;
  }

  base::Result<std::vector<StoredModel>> models() override {
    const std::lock_guard lock(mutex_);
    std::vector<StoredModel> all;
    const auto status = models_.each([&](const Row& row) {
      all.push_back({base::ModelName(row.bytes(0)), row.bytes(1), row.integer(2), row.integer(3), row.integer(4) != 0});
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot read the models"));
    return all;
  }

  base::Status change_rollout(const RolloutChange& change) override {
    const std::lock_guard lock(mutex_);
    const StoredRollout& rollout = change.rollout;
    const auto status = transaction([&]() -> base::Status {
      for (const StoredModel& model : change.models) {
        THAW_RETURN_IF_ERROR(delete_pending_.run(rollout.model.str(), model.updated_unix_ms));
        THAW_RETURN_IF_ERROR(
            put_model_.run(model.name.str(), model.spec_json, model.created_unix_ms, model.updated_unix_ms, model.memory_estimated));
      }
      for (const base::ModelName& ended : change.ended) THAW_RETURN_IF_ERROR(delete_served(ended.str()));
      for (const StoredRevision& r : change.revisions)
        THAW_RETURN_IF_ERROR(put_revision_.run(r.model.str(), r.number, r.spec_json, r.runs_as.str(), r.memory_estimated, r.created_unix_ms,
                                               r.served_unix_ms, r.failure));
      for (const std::uint32_t number : change.forgotten) THAW_RETURN_IF_ERROR(delete_revision_.run(rollout.model.str(), number));
      return put_rollout_.run(rollout.model.str(), rollout.active, rollout.candidate, rollout.percent, rollout.timeout_ms);
    });
    return explain(status, "cannot store the revisions of model " + rollout.model.str());
  }

  base::Result<std::vector<StoredRevision>> revisions() override {
    const std::lock_guard lock(mutex_);
    std::vector<StoredRevision> all;
    const auto status = revisions_.each([&](const Row& row) {
      all.push_back({base::ModelName(row.bytes(0)), static_cast<std::uint32_t>(row.natural(1)), row.bytes(2), base::ModelName(row.bytes(3)),
                     row.integer(4) != 0, row.integer(5), row.integer(6), row.bytes(7)});
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot read the models' revisions"));
    return all;
  }

  base::Result<std::vector<StoredRollout>> rollouts() override {
    const std::lock_guard lock(mutex_);
    std::vector<StoredRollout> all;
    const auto status = rollouts_.each([&](const Row& row) {
      all.push_back({base::ModelName(row.bytes(0)), static_cast<std::uint32_t>(row.natural(1)), static_cast<std::uint32_t>(row.natural(2)),
                     static_cast<std::uint32_t>(row.natural(3)), row.integer(4)});
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot read which revisions serve"));
    return all;
  }

  base::Result<bool> delete_rollout(const base::ModelName& model) override {
    const std::lock_guard lock(mutex_);
    bool deleted = false;
    const auto status = transaction([&]() -> base::Status {
      std::vector<std::string> names;
      THAW_RETURN_IF_ERROR(runs_as_.each([&](const Row& row) { names.push_back(row.bytes(0)); }, model.str()));
      THAW_RETURN_IF_ERROR(delete_revisions_.run(model.str()));
      for (const std::string& name : names) THAW_RETURN_IF_ERROR(delete_served(name, &deleted));
      THAW_RETURN_IF_ERROR(delete_pending_.run(model.str(), std::numeric_limits<std::int64_t>::max()));
      return delete_rollout_.run(model.str());
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot delete model " + model.str()));
    return deleted;
  }

  base::Status put_model_files(const base::ModelName& name, const std::vector<StoredFile>& files) override {
    const std::lock_guard lock(mutex_);
    const auto status = transaction([&]() -> base::Status {
      THAW_RETURN_IF_ERROR(delete_files_.run(name.str()));
      for (std::size_t i = 0; i < files.size(); ++i) {
        const StoredFile& file = files[i];
        THAW_RETURN_IF_ERROR(add_file_.run(name.str(), i, file.path, file.bytes, file.mtime_ns, file.inode, file.sha256,
                                           file.verified_unix_ms, file.changed_unix_ms));
      }
      return {};
    });
    return explain(status, "cannot store what is known of the files of model " + name.str());
  }

  base::Result<std::map<base::ModelName, std::vector<StoredFile>>> model_files() override {
    const std::lock_guard lock(mutex_);
    std::map<base::ModelName, std::vector<StoredFile>> all;
    const auto status = files_.each([&](const Row& row) {
      all[base::ModelName(row.bytes(0))].push_back({row.bytes(1), row.natural(2), row.natural(3), row.natural(4), row.bytes(5),
                                                    row.integer(6), row.integer(7)});
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot read what is known of the models' files"));
    return all;
  }

  base::Result<base::KeyId> add_key(const StoredKey& key) override {
    const std::lock_guard lock(mutex_);
    THAW_RETURN_IF_ERROR(explain(insert_key(key), "cannot store an API key"));
    return base::KeyId(static_cast<std::uint64_t>(database_.last_insert_id()));
  }

  base::Result<std::vector<StoredKey>> keys() override {
    const std::lock_guard lock(mutex_);
    std::vector<StoredKey> all;
    const auto status = keys_.each([&](const Row& row) {
      all.push_back({base::KeyId(row.natural(0)), row.bytes(1), base::TenantName(row.bytes(2)), row.bytes(3),
                     row.bytes(4), row.integer(5), spec::role_from(row.bytes(6)).value_or(spec::Role::read_only), row.integer(7) != 0,
                     split_words(row.bytes(8)), row.integer(9), row.integer(10), row.integer(11)});
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot read the API keys"));
    return all;
  }

  base::Result<bool> revoke_key(base::KeyId key, std::int64_t unix_ms) override {
    const std::lock_guard lock(mutex_);
    bool revoked = false;
    THAW_RETURN_IF_ERROR(
        explain(revoke_key_.each([&](const Row&) { revoked = true; }, key.value(), unix_ms), "cannot revoke an API key"));
    return revoked;
  }

  base::Result<base::KeyId> rotate_key(base::KeyId old, const StoredKey& key, std::int64_t old_ends_unix_ms, std::int64_t now_unix_ms) override {
    const std::lock_guard lock(mutex_);
    std::int64_t id = 0;
    const auto status = transaction([&]() -> base::Status {
      bool found = false;
      const auto on_row = [&](const Row&) { found = true; };
      THAW_RETURN_IF_ERROR(old_ends_unix_ms <= now_unix_ms ? revoke_key_.each(on_row, old.value(), now_unix_ms)
                                                           : expire_key_.each(on_row, old.value(), old_ends_unix_ms));
      if (!found) return base::Error{base::ErrorKind::not_found, "there is no such API key"};
      THAW_RETURN_IF_ERROR(insert_key(key));
      id = database_.last_insert_id();
      return {};
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot rotate an API key"));
    return base::KeyId(static_cast<std::uint64_t>(id));
  }

  base::Status touch_keys(const std::map<base::KeyId, std::int64_t>& used_unix_ms) override {
    if (used_unix_ms.empty()) return {};
    const std::lock_guard lock(mutex_);
    const auto status = transaction([&]() -> base::Status {
      for (const auto& [key, unix_ms] : used_unix_ms) THAW_RETURN_IF_ERROR(touch_key_.run(key.value(), unix_ms));
      return {};
    });
    return explain(status, "cannot store when API keys were used");
  }

  base::Status put_tenant(const StoredTenant& tenant) override {
    const std::lock_guard lock(mutex_);
    return explain(put_tenant_.run(tenant.name.str(), tenant.spec_json, tenant.created_unix_ms, tenant.updated_unix_ms),
                   "cannot store tenant " + tenant.name.str());
  }

  base::Result<bool> delete_tenant(const base::TenantName& name, std::int64_t unix_ms) override {
    const std::lock_guard lock(mutex_);
    bool deleted = false;
    const auto status = transaction([&]() -> base::Status {
      THAW_RETURN_IF_ERROR(revoke_keys_of_.run(name.str(), unix_ms));
      return delete_tenant_.each([&](const Row&) { deleted = true; }, name.str());
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot delete tenant " + name.str()));
    return deleted;
  }

  base::Result<std::vector<StoredTenant>> tenants() override {
    const std::lock_guard lock(mutex_);
    std::vector<StoredTenant> all;
    const auto status = tenants_.each([&](const Row& row) {
      all.push_back({base::TenantName(row.bytes(0)), row.bytes(1), row.integer(2), row.integer(3)});
    });
    THAW_RETURN_IF_ERROR(explain(status, "cannot read the tenants"));
    return all;
  }

  base::Result<std::uint32_t> model_ref(const base::ModelName& name) override {
    const std::lock_guard lock(mutex_);
    const std::string act = "cannot look up model " + name.str();
    std::int64_t ref = 0;
    THAW_RETURN_IF_ERROR(explain(find_ref_.each([&](const Row& row) { ref = row.integer(0); }, name.str()), act));
    if (ref == 0) {
      THAW_RETURN_IF_ERROR(explain(add_ref_.run(name.str()), act));
      ref = database_.last_insert_id();
    }
    if (ref > std::numeric_limits<std::uint32_t>::max())
      return base::Error{base::ErrorKind::exhausted,
                         act + ": more model names than 32 bits count; begin with a new data directory"};
    return static_cast<std::uint32_t>(ref);
  }

  base::Result<std::uint64_t> reserve_ids(const std::string& counter, std::uint64_t count) override {
    constexpr std::uint64_t kMaxCount = 1ULL << 32;  // so that 63 bits last for ever
    if (count == 0 || count > kMaxCount)
      return base::Error{base::ErrorKind::invalid, "cannot reserve ids: the count must be 1 to 2^32"};
    const std::lock_guard lock(mutex_);
    std::uint64_t first = 0;
    THAW_RETURN_IF_ERROR(explain(reserve_ids_.each([&](const Row& row) { first = row.natural(0); }, counter, count),
                                 "cannot reserve ids of " + counter));
    return first;
  }

 private:
  /// Under the lock.
  base::Status insert_key(const StoredKey& key) {
    return add_key_.run(key.name, key.tenant.str(), Blob{key.salt}, Blob{key.hash}, key.created_unix_ms, std::string_view(to_string(key.role)),
                        key.platform, join_words(key.models), key.expires_unix_ms);
  }

  /// A row of models, with its files. Under the lock, in a transaction.
  base::Status delete_served(const std::string& name, bool* deleted = nullptr) {
    THAW_RETURN_IF_ERROR(delete_files_.run(name));
    return delete_model_.each(
        [&](const Row&) {
          if (deleted != nullptr) *deleted = true;
        },
        name);
  }

  /// Does all of `work` or nothing. Under the lock.
  template <typename Work>
  base::Status transaction(const Work& work) {
    base::Status status = begin_.run();
    if (status) status = work();
    if (status) status = commit_.run();
    if (!status) (void)rollback_.run();  // of no effect, and so harmless, when there is no transaction
    return status;
  }

  static base::Status explain(base::Status status, const std::string& act) {
    if (!status) return status.error().within(act);
    return status;
  }

  std::mutex mutex_;  ///< held for every use of the members below
  Database database_;
  Statement put_model_, delete_model_, models_, add_key_, keys_, find_ref_, add_ref_, reserve_ids_;
  Statement put_pending_, delete_pending_, pending_;
  Statement put_revision_, delete_revision_, delete_revisions_, revisions_, put_rollout_, delete_rollout_, rollouts_, runs_as_;
  Statement delete_files_, add_file_, files_, begin_, commit_, rollback_;
  Statement revoke_key_, expire_key_, touch_key_, revoke_keys_of_, put_tenant_, delete_tenant_, tenants_;
};

/// SQLite gives -wal and -shm the mode of the database, so that one that exists is narrowed before it is opened. Never
/// through a descriptor: closing one would drop the locks that this process may hold on the file.
base::Status create_or_narrow(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerOnly);
  if (fd >= 0) {
    ::close(fd);
    return {};
  }
  if (errno != EEXIST) {
    const int code = errno;
    const base::Error error = base::errno_error("cannot create " + path, code);
    return code == ENOENT ? base::Error{error.kind, error.message + "; create its directory first"} : error;
  }
  if (::chmod(path.c_str(), kOwnerOnly) != 0) return base::errno_error("cannot set the mode of " + path, errno);
  for (const char* suffix : {"-wal", "-shm"})
    if (::chmod((path + suffix).c_str(), kOwnerOnly) != 0 && errno != ENOENT)
      return base::errno_error("cannot set the mode of " + path + suffix, errno);
  return {};
}

}  // namespace

base::Result<std::unique_ptr<Store>> open_sqlite(const std::string& path) {
  THAW_RETURN_IF_ERROR(create_or_narrow(path));
  THAW_ASSIGN_OR_RETURN(Database database, Database::open(path, Database::Access::read_write));
  THAW_RETURN_IF_ERROR(prepare_schema(database));
  auto store = std::make_unique<SqliteStore>(std::move(database));
  THAW_RETURN_IF_ERROR(store->prepare());
  return std::unique_ptr<Store>(std::move(store));
}

}  // namespace thaw::store
