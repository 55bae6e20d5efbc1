#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "gateway/api_error.h"
#include "gateway/caller.h"
#include "gateway/tenants.h"
#include "net/http.h"
#include "store/api_key.h"

namespace thaw::gateway {

/// Believes tokens of somebody else (gateway/oidc). Loop thread only; must not block.
class TokenDoor {
 public:
  virtual ~TokenDoor() = default;
  /// Whom `token` stands for, without its account; or the answer to it.
  [[nodiscard]] virtual std::shared_ptr<Caller> check(std::string_view token, std::int64_t unix_ms, std::optional<ApiError>& refused) = 0;
  /// Changes when what was believed must be checked again.
  [[nodiscard]] virtual std::uint64_t generation() const = 0;
};

/// Decides who a request comes from. Keys are held as the store has them: salted and hashed. Loop thread only.
class KeyRing {
 public:
  /// `open`: --dev, nobody is asked for a key: everybody administers the platform.
  explicit KeyRing(bool open);
  KeyRing(KeyRing&&) = default;
  KeyRing& operator=(KeyRing&&) = default;
  KeyRing(const KeyRing&) = delete;
  KeyRing& operator=(const KeyRing&) = delete;

  /// All keys there are, from now on: one that is not among them, or revoked, lets in nobody. `tenants` must outlive the ring.
  void set(std::vector<store::StoredKey> keys, const Tenants& tenants);
  /// Tokens are taken too. Must outlive the ring; nullptr: none.
  void take_tokens(TokenDoor* door) { door_ = door; }

  /// Whether the request has a key or a token at all.
  [[nodiscard]] static bool sent(const net::Head& head);
  /// From "Authorization: Bearer KEY" (or "x-api-key: KEY"); the error is a 401 that says what is missing. `unix_ms`: now.
  [[nodiscard]] std::optional<ApiError> identify(const net::Head& head, std::int64_t unix_ms, std::shared_ptr<const Caller>& caller);

  /// As the store has them, with the last use that is known here. By id.
  [[nodiscard]] const std::map<base::KeyId, store::StoredKey>& keys() const { return keys_; }
  [[nodiscard]] std::int64_t last_used_unix_ms(base::KeyId key) const;
  /// Keys that were used since they were last asked for here, and when: to be written down. To the minute.
  [[nodiscard]] std::map<base::KeyId, std::int64_t> take_used() { return std::exchange(used_, {}); }

 private:
  static constexpr std::size_t kKnown = 256;
  static constexpr std::int64_t kUseNoted_ms = 60'000;
  /// A key or token that was checked before. Not itself: a hash of it under a secret of this process.
  struct Known {
    std::uint64_t hash = 0;
    std::shared_ptr<const Caller> caller;
  };

  std::optional<ApiError> check_key(std::string_view sent, std::int64_t unix_ms, std::shared_ptr<const Caller>& caller) const;
  std::optional<ApiError> check_token(std::string_view sent, std::int64_t unix_ms, std::shared_ptr<const Caller>& caller) const;
  void note_use(const Caller& caller, std::int64_t unix_ms);

  bool open_;
  std::shared_ptr<const Caller> anybody_;  ///< with --dev
  const Tenants* tenants_ = nullptr;
  TokenDoor* door_ = nullptr;
  std::uint64_t door_generation_ = 0;
  std::map<base::KeyId, store::StoredKey> keys_;
  std::unordered_map<base::KeyId, std::shared_ptr<const Caller>> callers_;  ///< of the keys that let somebody in
  std::map<base::KeyId, std::int64_t> used_;
  std::array<std::uint64_t, 2> secret_;
  std::array<Known, kKnown> known_;  ///< place = hash mod kKnown; emptied by set()
};

}  // namespace thaw::gateway
