#pragma once

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
  explicit KeyRing(bool open) : open_(open) {}

  void set(std::vector<store::StoredKey> keys);
  /// From "Authorization: Bearer KEY" (or "x-api-key: KEY"); the error is a 401 that says what is missing.
  [[nodiscard]] std::optional<ApiError> identify(const net::Head& head, Caller& caller) const;

 private:
  bool open_;
  std::unordered_map<base::KeyId, store::StoredKey> keys_;
};

}  // namespace thaw::gateway
