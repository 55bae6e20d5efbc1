#include "gateway/auth.h"

#include <algorithm>
#include <random>
#include <utility>

#include "gateway/sip_hash.h"

namespace thaw::gateway {
namespace {

ApiError unauthorized(const char* message, const char* code) {
  return {401, "authentication_error", code, message, {}, {}};
}

ApiError not_valid() { return unauthorized("the API key is not valid", "invalid_api_key"); }

std::array<std::uint64_t, 2> random_secret() {
  std::random_device device;  // the kernel's
  const auto word = [&device] { return static_cast<std::uint64_t>(device()) << 32U | device(); };
  return {word(), word()};
}

/// "" if there is none.
std::string_view credential(const net::Head& head) {
  constexpr std::string_view kScheme = "bearer ";
  if (const auto authorization = head.find("authorization"))
    return authorization->size() > kScheme.size() && net::equals_lower(authorization->substr(0, kScheme.size()), kScheme)
               ? authorization->substr(kScheme.size())
               : std::string_view();
  return head.find("x-api-key").value_or(std::string_view());
}

std::shared_ptr<const Caller> caller_of(const store::StoredKey& key, const Tenants& tenants) {
  auto caller = std::make_shared<Caller>();
  caller->key = key.id;
  caller->tenant = key.tenant;
  caller->role = key.role;
  caller->platform = key.platform;
  caller->models = key.models;
  std::sort(caller->models.begin(), caller->models.end());
  caller->expires_unix_ms = key.expires_unix_ms;
  caller->account = tenants.account(key.tenant);
  caller->used_unix_ms = key.last_used_unix_ms;
  return caller;
}

}  // namespace

KeyRing::KeyRing(bool open) : open_(open), secret_(random_secret()) {}

void KeyRing::set(std::vector<store::StoredKey> keys, const Tenants& tenants) {
  known_ = {};
  keys_.clear();
  tenants_ = &tenants;
  const auto before = std::exchange(callers_, {});
  for (auto& key : keys) {
    const base::KeyId id = key.id;
    const auto was = before.find(id);
    if (was != before.end()) key.last_used_unix_ms = std::max(key.last_used_unix_ms, was->second->used_unix_ms);
    if (key.revoked_unix_ms == 0) callers_.emplace(id, caller_of(key, tenants));
    keys_.emplace(id, std::move(key));
  }
  auto anybody = std::make_shared<Caller>();
  anybody->role = spec::Role::admin;
  anybody->platform = true;
  anybody->account = tenants.account(anybody->tenant);
  anybody_ = std::move(anybody);
}

std::int64_t KeyRing::last_used_unix_ms(base::KeyId key) const {
  if (const auto found = callers_.find(key); found != callers_.end()) return found->second->used_unix_ms;
  const auto kept = keys_.find(key);
  return kept == keys_.end() ? 0 : kept->second.last_used_unix_ms;
}

bool KeyRing::sent(const net::Head& head) { return !credential(head).empty(); }

std::optional<ApiError> KeyRing::identify(const net::Head& head, std::int64_t unix_ms, std::shared_ptr<const Caller>& caller) {
  if (open_) {
    caller = anybody_;
    return std::nullopt;
  }
  const std::string_view sent = credential(head);
  if (sent.empty())
    return unauthorized(
        "an API key is required: send \"Authorization: Bearer KEY\"; `thaw serve` printed one when it first started",
        "missing_api_key");
  if (door_ != nullptr && door_->generation() != door_generation_) {
    known_ = {};
    door_generation_ = door_->generation();
  }
  const std::uint64_t hash = sip_hash(secret_, sent);
  Known& known = known_[hash % kKnown];
  if (known.caller && known.hash == hash && !known.caller->expired(unix_ms)) {
    caller = known.caller;
  } else {
    std::shared_ptr<const Caller> found;
    const bool token = door_ != nullptr && sent.find('.') != std::string_view::npos;  // which no key has
    if (auto refused = token ? check_token(sent, unix_ms, found) : check_key(sent, unix_ms, found)) return refused;
    known = {hash, found};
    caller = std::move(found);
  }
  note_use(*caller, unix_ms);
  return std::nullopt;
}

std::optional<ApiError> KeyRing::check_key(std::string_view sent, std::int64_t unix_ms, std::shared_ptr<const Caller>& caller) const {
  const auto parts = store::split_key(sent);
  // One answer and one amount of work for a malformed, an unknown, a revoked and a wrong key.
  static const store::StoredKey nobody{};
  const store::StoredKey* stored = &nobody;
  if (parts.ok()) {
    if (const auto found = keys_.find(parts->id); found != keys_.end()) stored = &found->second;
  }
  const bool matches = store::secret_matches(*stored, parts.ok() ? parts->secret : sent);
  if (!matches || stored == &nobody) return not_valid();
  const auto found = callers_.find(stored->id);
  if (found == callers_.end()) return not_valid();
  // Whoever holds the right secret may be told more.
  if (found->second->expired(unix_ms)) return unauthorized("the API key has expired; ask your administrator for another", "expired_api_key");
  caller = found->second;
  return std::nullopt;
}

std::optional<ApiError> KeyRing::check_token(std::string_view sent, std::int64_t unix_ms, std::shared_ptr<const Caller>& caller) const {
  std::optional<ApiError> refused;
  const std::shared_ptr<Caller> found = door_->check(sent, unix_ms, refused);
  if (!found) return refused;
  const Tenant* const tenant = tenants_ == nullptr ? nullptr : tenants_->find(found->tenant);
  if (tenant == nullptr) return unauthorized("the token is of a tenant that this server does not have", "invalid_token");
  found->account = tenant->account;
  caller = found;
  return std::nullopt;
}

/// To the minute: a request does not pay for a write.
void KeyRing::note_use(const Caller& caller, std::int64_t unix_ms) {
  if (!caller.key || unix_ms - caller.used_unix_ms < kUseNoted_ms) return;
  caller.used_unix_ms = unix_ms;
  used_[caller.key] = unix_ms;
}

}  // namespace thaw::gateway
