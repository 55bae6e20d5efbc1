// API keys: made, shown once, listed, exchanged, revoked.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>

#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "gateway/admin.h"
#include "gateway/json_body.h"
#include "gateway/server.h"
#include "store/api_key.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;
using store::StoredKey;

constexpr std::size_t kMaxNameBytes = 100;
constexpr std::size_t kMaxKeyModels = 100;
constexpr std::size_t kMaxLiveKeys = 1000;  ///< of a tenant
constexpr std::int64_t kMaxLife_s = 10LL * 366 * 24 * 3600;
constexpr std::int64_t kMaxGrace_s = 30LL * 24 * 3600;
constexpr std::int64_t kMsPerSecond = 1000;

bool live(const StoredKey& key, std::int64_t now_ms) {
  return key.revoked_unix_ms == 0 && (key.expires_unix_ms == 0 || key.expires_unix_ms > now_ms);
}

json::value moment(std::int64_t unix_ms) {
  return unix_ms == 0 ? json::value(nullptr) : json::value(unix_ms);
}

json::object describe(const StoredKey& key, std::int64_t last_used_unix_ms, std::int64_t now_ms) {
  const char* state = key.revoked_unix_ms != 0 ? "revoked" : live(key, now_ms) ? "live" : "expired";
  return {{"id", key.id.value()},
          {"name", key.name},
          {"tenant", key.tenant.str()},
          {"role", to_string(key.role)},
          {"platform", key.platform},
          {"models", json::array(key.models.begin(), key.models.end())},
          {"state", state},
          {"created_unix_ms", key.created_unix_ms},
          {"expires_unix_ms", moment(key.expires_unix_ms)},
          {"revoked_unix_ms", moment(key.revoked_unix_ms)},
          {"last_used_unix_ms", moment(last_used_unix_ms)}};
}

/// Keys of the platform are seen by its own alone, also those that are of the caller's tenant.
bool shown(const Exchange& exchange, const StoredKey& key) {
  if (key.platform) return exchange.caller().platform && (exchange.of_all_tenants() || key.tenant == exchange.tenant());
  return exchange.of_all_tenants() || key.tenant == exchange.tenant();
}

/// The key that the path names, if the caller may know of it.
const StoredKey* key_named(Server& server, const Exchange& exchange) {
  const std::string_view text = exchange.parameter();
  std::uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc{} || end != text.data() + text.size()) return nullptr;
  const auto found = server.keys().keys().find(base::KeyId(id));
  return found == server.keys().keys().end() || !shown(exchange, found->second) ? nullptr : &found->second;
}

net::Task<void> respond_no_such_key(Exchange& exchange) {
  const ApiError error{
      404, "invalid_request_error", "not_found", "there is no such API key; `thaw key ls` lists them", {}, {}};
  co_await exchange.respond_error(error);
}

ApiError quota_exceeded(std::string message) {
  return {403, "permission_error", "quota_exceeded", std::move(message), {}, {}};
}

/// What is asked for, or why it cannot be.
std::optional<ApiError> read_new_key(Server& server, const Exchange& exchange, StoredKey& key) {
  const std::int64_t now_ms = net::unix_ms();
  JsonBody body(exchange.body());
  key.name = body.text("name", kMaxNameBytes);
  const std::string role = body.text("role", kMaxNameBytes);
  key.platform = body.flag("platform");
  key.models = body.words("models", kMaxKeyModels, base::kMaxModelName);
  const auto life_s = body.whole("expires_in_s", 1, kMaxLife_s);
  if (const auto known = spec::role_from(role))
    key.role = *known;
  else
    body.refuse("role", "must be one of admin, deployer, inference and read-only");
  for (const std::string& model : key.models)
    if (model.empty() || model.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") != std::string::npos)
      body.refuse("models", "holds what is no model's name");
  if (!key.models.empty() && key.role == spec::Role::admin)
    body.refuse("models", "an admin is not confined to some models; choose the role deployer");
  if (key.platform && key.role != spec::Role::admin && key.role != spec::Role::read_only)
    body.refuse("platform", "is for the roles admin and read-only: models belong to tenants");
  if (key.platform && exchange.tenant().str() != base::kDefaultTenant)
    body.refuse("platform", "is not for keys of a tenant");
  if (const base::Status right = body.finish(); !right.ok()) return invalid_request(right.error().message);
  if (key.platform && !exchange.caller().platform)
    return ApiError{
        403, "permission_error", "platform_only", "only a key of the platform makes keys of the platform", {}, {}};
  const auto& keys = server.keys().keys();
  const auto count = std::count_if(keys.begin(), keys.end(), [&](const auto& one) {
    return one.second.tenant == exchange.tenant() && live(one.second, now_ms);
  });
  if (static_cast<std::size_t>(count) >= kMaxLiveKeys)
    return quota_exceeded("the tenant has " + std::to_string(count) + " keys, and no more are possible; revoke some");
  key.tenant = exchange.tenant();
  key.created_unix_ms = now_ms;
  if (life_s) key.expires_unix_ms = now_ms + *life_s * kMsPerSecond;
  return std::nullopt;
}

/// A secret for `key`: returned once, kept as a hash.
base::Result<std::string> make_secret(StoredKey& key) {
  THAW_ASSIGN_OR_RETURN(std::string secret, store::new_key_secret());
  THAW_ASSIGN_OR_RETURN(key.salt, store::new_salt());
  key.hash = store::hash_secret(key.salt, secret);
  return secret;
}

std::string audited_as(const StoredKey& key) {
  const std::string id = "key:" + std::to_string(key.id.value());
  return key.tenant.str() == base::kDefaultTenant ? id : key.tenant.str() + "/" + id;
}

/// The only time that the secret is seen.
net::Task<void> respond_new_key(Exchange& exchange, int status, const StoredKey& key, const std::string& secret,
                                const json::object& more) {
  json::object answer = describe(key, 0, net::unix_ms());
  answer["key"] = store::format_key(key.id, secret);
  for (const auto& entry : more) answer[entry.key()] = entry.value();
  const std::string body = json::serialize(answer);
  co_await exchange.respond(status, "application/json", body, "Cache-Control: no-store\r\n");
}

}  // namespace

net::Task<void> list_keys(Server& server, Exchange& exchange) {
  json::array keys;
  for (const auto& [id, key] : server.keys().keys())
    if (shown(exchange, key)) keys.push_back(describe(key, server.keys().last_used_unix_ms(id), net::unix_ms()));
  const json::object answer{{"keys", std::move(keys)}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> create_key(Server& server, Exchange& exchange) {
  Services& services = server.services();
  StoredKey key;
  if (const auto refused = read_new_key(server, exchange, key)) {
    co_await exchange.respond_error(*refused);
    co_return;
  }
  const auto secret = make_secret(key);
  if (!secret.ok()) {
    co_await exchange.respond_error(from_error(secret.error()));
    co_return;
  }
  const auto id = co_await services.store_worker.run([&] { return services.store.add_key(key); });
  if (!id.ok()) {
    co_await exchange.respond_error(from_error(id.error()));
    co_return;
  }
  key.id = *id;
  exchange.audit_subject(audited_as(key));
  if (const base::Status loaded = co_await server.reload_keys(); !loaded.ok()) {
    co_await exchange.respond_error(from_error(loaded.error()));
    co_return;
  }
  spdlog::info("API key {} made for tenant {}: {}{}", key.id.value(), key.tenant.str(), key.platform ? "platform " : "",
               to_string(key.role));
  const json::object more;
  co_await respond_new_key(exchange, 201, key, *secret, more);
}

net::Task<void> revoke_key(Server& server, Exchange& exchange) {
  Services& services = server.services();
  const StoredKey* const known = key_named(server, exchange);
  const std::int64_t now_ms = net::unix_ms();
  if (known == nullptr || known->revoked_unix_ms != 0) {
    co_await respond_no_such_key(exchange);
    co_return;
  }
  const StoredKey key = *known;
  exchange.audit_subject(audited_as(key));
  const auto administers = [&](const StoredKey& one) {
    return one.platform && one.role == spec::Role::admin && live(one, now_ms);
  };
  const auto& keys = server.keys().keys();
  if (administers(key) && std::none_of(keys.begin(), keys.end(), [&](const auto& one) {
        return one.first != key.id && administers(one.second);
      })) {
    const ApiError error{409,        "invalid_request_error",
                         "conflict", "it is the last key that administers the platform; make another one first",
                         {},         {}};
    co_await exchange.respond_error(error);
    co_return;
  }
  const auto revoked = co_await services.store_worker.run([&] { return services.store.revoke_key(key.id, now_ms); });
  const base::Status loaded = co_await server.reload_keys();
  if (!revoked.ok() || !loaded.ok()) {
    co_await exchange.respond_error(from_error(revoked.ok() ? loaded.error() : revoked.error()));
    co_return;
  }
  server.cut_callers([&](const Caller& caller) { return caller.key == key.id; }, &exchange);
  spdlog::info("API key {} of tenant {} revoked", key.id.value(), key.tenant.str());
  const json::object answer{{"id", key.id.value()}, {"revoked", true}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> rotate_key(Server& server, Exchange& exchange) {
  Services& services = server.services();
  const StoredKey* const known = key_named(server, exchange);
  const std::int64_t now_ms = net::unix_ms();
  if (known == nullptr || !live(*known, now_ms)) {
    co_await respond_no_such_key(exchange);
    co_return;
  }
  const StoredKey old = *known;
  exchange.audit_subject(audited_as(old));
  JsonBody body(exchange.body());
  const std::int64_t grace_ms = body.whole("grace_s", 0, kMaxGrace_s).value_or(0) * kMsPerSecond;
  if (const base::Status right = body.finish(); !right.ok()) {
    co_await exchange.respond_error(invalid_request(right.error().message));
    co_return;
  }
  StoredKey key = old;
  key.created_unix_ms = now_ms;
  key.last_used_unix_ms = 0;
  if (old.expires_unix_ms != 0) key.expires_unix_ms = now_ms + (old.expires_unix_ms - old.created_unix_ms);
  const auto secret = make_secret(key);
  if (!secret.ok()) {
    co_await exchange.respond_error(from_error(secret.error()));
    co_return;
  }
  const auto id = co_await services.store_worker.run(
      [&] { return services.store.rotate_key(old.id, key, now_ms + grace_ms, now_ms); });
  const base::Status loaded = co_await server.reload_keys();
  if (!id.ok() || !loaded.ok()) {
    co_await exchange.respond_error(from_error(id.ok() ? loaded.error() : id.error()));
    co_return;
  }
  key.id = *id;
  if (grace_ms == 0) server.cut_callers([&](const Caller& caller) { return caller.key == old.id; }, &exchange);
  spdlog::info("API key {} of tenant {} exchanged for {}", old.id.value(), old.tenant.str(), key.id.value());
  const std::int64_t ends_ms =
      old.expires_unix_ms == 0 ? now_ms + grace_ms : std::min(old.expires_unix_ms, now_ms + grace_ms);
  const json::object more{{"replaces", old.id.value()}, {"old_ends_unix_ms", ends_ms}};
  co_await respond_new_key(exchange, 201, key, *secret, more);
}

}  // namespace thaw::gateway::admin
