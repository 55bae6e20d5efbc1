#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thaw::audit {

/// The problem: the log can never be changed, and a tenant may have to be forgotten (docs/decisions/0031).
///
/// What is a tenant's own in a record (the address that its people come from) is encrypted with a key of that tenant, AES-256-GCM, before the record is
/// hashed: "sealed:<key's id>:<nonce, text, tag in hex>". Whoever has the key reads it; shred() destroys the key, and with it what was sealed, while
/// every hash, signature and anchor stays true. Keys are files in the log's directory, one a tenant, mode 0600.
///
/// Any thread. Blocking: a tenant's first seal makes its key durable.
class TenantSeals {
 public:
  /// Reads the keys in `directory`, which it makes. `read_only`: makes nothing, for readers of a log.
  static base::Result<TenantSeals> open(std::string directory, bool read_only = false);
  TenantSeals(TenantSeals&& other) noexcept;

  /// Fails when no key can be made: then the text must not be written at all.
  base::Result<std::string> seal(const std::string& tenant, std::string_view text);
  /// What seal() was given; nullopt: nothing that was sealed, or its key is gone.
  [[nodiscard]] std::optional<std::string> open_text(std::string_view sealed) const;
  /// Destroys a tenant's key: overwritten, removed, durable. False: there was none.
  base::Result<bool> shred(const std::string& tenant);

 private:
  struct Key {
    std::string id;      ///< 16 hex digits, random
    std::string secret;  ///< 32 bytes
  };
  explicit TenantSeals(std::string directory) : directory_(std::move(directory)) {}
  base::Status load(const std::string& path);
  base::Result<Key> make(const std::string& tenant);
  [[nodiscard]] std::string path_of(const Key& key) const { return directory_ + "/" + key.id + ".key"; }

  std::string directory_;
  mutable std::mutex mutex_;
  std::map<std::string, Key> by_tenant_;
};

}  // namespace thaw::audit
