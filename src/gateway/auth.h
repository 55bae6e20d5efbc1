#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "gateway/exchange.h"
#include "store/api_key.h"

namespace thaw::gateway {

/// Decides who a request comes from. Keys are held as the store has them: salted and hashed. Loop thread only.
class KeyRing {
 public:
  /// `open`: --dev, nobody is asked for a key.
  explicit KeyRing(bool open);
  KeyRing(KeyRing&&) = default;  // what is known points into keys_, which moves along
  KeyRing& operator=(KeyRing&&) = default;
  KeyRing(const KeyRing&) = delete;
  KeyRing& operator=(const KeyRing&) = delete;

  void set(std::vector<store::StoredKey> keys);
  /// From "Authorization: Bearer KEY" (or "x-api-key: KEY"); the error is a 401 that says what is missing.
  [[nodiscard]] std::optional<ApiError> identify(const net::Head& head, Caller& caller) const;

 private:
  static constexpr std::size_t kKnown = 256;
  /// A key that was checked before. Not the key: a hash of it under a secret of this process.
  struct Known {
    std::uint64_t hash = 0;
    const store::StoredKey* key = nullptr;
  };

  bool open_;
  std::unordered_map<base::KeyId, store::StoredKey> keys_;
  std::array<std::uint64_t, 2> secret_;
  mutable std::array<Known, kKnown> known_;  ///< place = hash mod kKnown; emptied by set()
};

}  // namespace thaw::gateway
