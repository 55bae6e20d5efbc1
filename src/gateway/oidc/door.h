#pragma once

#include <functional>
#include <memory>
#include <string>

#include "gateway/auth.h"
#include "gateway/oidc/jwks.h"
#include "net/loop.h"
#include "net/worker.h"
#include "spec/server_config.h"

namespace thaw::gateway::oidc {

/// Believes the tokens of one identity provider. Its keys are read on a thread of this door's own, at the start, every
/// `refresh`, and when a token names one that is not known (rotation), at most every kMinBetween; requests never wait
/// for them. While none could be read yet, tokens get 503. A token that is good may be used again until it expires: who
/// wants less makes them short-lived. Loop thread only.
class Door final : public TokenDoor {
 public:
  static constexpr base::Duration kMinBetween = base::Seconds(10);

  /// `read`: the key set's text; called on the door's own thread, may block for some seconds.
  using Read = std::function<base::Result<std::string>()>;
  Door(net::Loop& loop, spec::ServerConfig::Oidc config, Read read);
  ~Door() override;
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;

  /// Reads the keys and waits for that: once, before the loop runs.
  base::Status start();

  std::shared_ptr<Caller> check(std::string_view token, std::int64_t unix_ms,
                                std::optional<ApiError>& refused) override;
  [[nodiscard]] std::uint64_t generation() const override { return generation_; }

 private:
  void read_anew();
  void take(const base::Result<std::string>& text);

  net::Loop& loop_;
  spec::ServerConfig::Oidc config_;
  Read read_;
  std::shared_ptr<Door*> self_;  ///< of what is under way: holds nullptr once this is gone
  std::optional<JwkSet> keys_;
  std::string text_;  ///< of keys_
  std::uint64_t generation_ = 0;
  bool reading_ = false;
  base::TimePoint read_at_{};
  net::Timer timer_;
  net::Worker worker_;
};

/// Of `place`, an absolute path or a URL: at most JwkSet::kMaxBytes, within some seconds, without following
/// redirections.
base::Result<std::string> read_key_set(const std::string& place);

}  // namespace thaw::gateway::oidc
