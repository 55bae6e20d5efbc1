#include "gateway/auth.h"

#include <random>

#include "gateway/sip_hash.h"

namespace thaw::gateway {
namespace {

ApiError unauthorized(const char* message, const char* code) {
  return {401, "authentication_error", code, message, {}, {}};
}

std::array<std::uint64_t, 2> random_secret() {
  std::random_device device;  // the kernel's
  const auto word = [&device] { return static_cast<std::uint64_t>(device()) << 32U | device(); };
  return {word(), word()};
}

}  // namespace

KeyRing::KeyRing(bool open) : open_(open), secret_(random_secret()) {}

void KeyRing::set(std::vector<store::StoredKey> keys) {
  known_ = {};
  keys_.clear();
  for (auto& key : keys) {
    const base::KeyId id = key.id;
    keys_.emplace(id, std::move(key));
  }
}

std::optional<ApiError> KeyRing::identify(const net::Head& head, Caller& caller) const {
  if (open_) return std::nullopt;
  std::string_view sent;
  if (const auto authorization = head.find("authorization")) {
    if (authorization->size() > 7 && net::equals_lower(authorization->substr(0, 7), "bearer "))
      sent = authorization->substr(7);
  } else if (const auto key = head.find("x-api-key")) {
    sent = *key;
  }
  if (sent.empty())
    return unauthorized(
        "an API key is required: send \"Authorization: Bearer KEY\"; `thaw serve` printed one when it first started",
        "missing_api_key");
  const std::uint64_t hash = sip_hash(secret_, sent);
  Known& known = known_[hash % kKnown];
  if (known.key != nullptr && known.hash == hash) {
    caller.key = known.key->id;
    caller.tenant = known.key->tenant;
    return std::nullopt;
  }
  const auto parts = store::split_key(sent);
  // One answer and one amount of work for a malformed, an unknown and a wrong key.
  static const store::StoredKey nobody{};
  const store::StoredKey* stored = &nobody;
  if (parts.ok()) {
    if (const auto found = keys_.find(parts->id); found != keys_.end()) stored = &found->second;
  }
  const bool matches = store::secret_matches(*stored, parts.ok() ? parts->secret : sent);
  if (!matches || stored == &nobody) return unauthorized("the API key is not valid", "invalid_api_key");
  known = {hash, stored};
  caller.key = stored->id;
  caller.tenant = stored->tenant;
  return std::nullopt;
}

}  // namespace thaw::gateway
