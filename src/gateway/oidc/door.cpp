#include "gateway/oidc/door.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "gateway/oidc/claims.h"

namespace thaw::gateway::oidc {
namespace {

ApiError invalid_token(std::string message) {
  return {401, "authentication_error", "invalid_token", std::move(message), {}, {}};
}

ApiError no_keys_yet() {
  return {
      503, "server_error",  "keys_unavailable", "the identity provider's keys are being read; try again in a moment",
      {},  base::Seconds(1)};
}

}  // namespace

Door::Door(net::Loop& loop, spec::ServerConfig::Oidc config, Read read)
    : loop_(loop),
      config_(std::move(config)),
      read_(std::move(read)),
      self_(std::make_shared<Door*>(this)),
      timer_(loop, [this] { read_anew(); }),
      worker_(loop, 1) {}

Door::~Door() {
  *self_ = nullptr;
}

base::Status Door::start() {
  const auto text = read_();
  take(text);
  if (!text.ok()) return text.error();
  if (!keys_) return base::Error{base::ErrorKind::invalid, config_.jwks + " is no key set of use"};
  return {};
}

void Door::read_anew() {
  if (reading_) return;
  reading_ = true;
  read_at_ = loop_.now();
  const bool accepted = worker_.submit([read = read_, self = self_, &loop = loop_] {
    auto text = std::make_shared<base::Result<std::string>>(read());
    loop.post([self, text] {
      if (*self != nullptr) (*self)->take(*text);
    });
  });
  if (!accepted) reading_ = false;
}

void Door::take(const base::Result<std::string>& text) {
  reading_ = false;
  read_at_ = loop_.now();
  timer_.arm(loop_.now() + (text.ok() ? config_.refresh : std::min<base::Duration>(config_.refresh, kMinBetween)));
  if (!text.ok()) {
    spdlog::warn("the keys of {} cannot be read, {}: {}", config_.issuer,
                 keys_ ? "those of before stay" : "its tokens are refused", text.error().message);
    return;
  }
  if (*text == text_) return;
  auto keys = JwkSet::parse(*text);
  if (!keys.ok()) {
    spdlog::warn("the keys of {} at {} are of no use, {}: {}", config_.issuer, config_.jwks,
                 keys_ ? "those of before stay" : "its tokens are refused", keys.error().message);
    return;
  }
  keys_ = std::move(keys).value();
  text_ = *text;
  ++generation_;
  spdlog::info("{} keys of {} read", keys_->size(), config_.issuer);
}

std::shared_ptr<Caller> Door::check(std::string_view token, std::int64_t unix_ms, std::optional<ApiError>& refused) {
  const auto jwt = parse_jwt(token);
  if (!jwt.ok()) {
    spdlog::debug("a token was refused: {}", jwt.error().message);
    refused = invalid_token("the token is not valid");
    return nullptr;
  }
  const auto verdict = keys_ ? keys_->verify(*jwt) : JwkSet::Verdict::unknown_key;
  if (verdict == JwkSet::Verdict::unknown_key) {
    // The provider may have a new one. Whoever makes names up gets this read no more often than that.
    if (!reading_ && loop_.now() - read_at_ >= kMinBetween) read_anew();
    refused = reading_ || !keys_ ? no_keys_yet() : invalid_token("the token is not valid");
    return nullptr;
  }
  if (verdict == JwkSet::Verdict::bad) {
    refused = invalid_token("the token is not valid");
    return nullptr;
  }
  auto caller = read_claims(jwt->claims, config_, unix_ms);
  if (caller.ok()) return *std::move(caller);
  refused = invalid_token(caller.error().message);
  return nullptr;
}

}  // namespace thaw::gateway::oidc
