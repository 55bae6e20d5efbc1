#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <boost/json/object.hpp>

#include "base/result.h"
#include "gateway/caller.h"
#include "spec/server_config.h"

namespace thaw::gateway::oidc {

/// Whom the claims of a token speak of, once its signature was found good: made by the issuer, for this audience, now,
/// with one tenant and one role. ErrorKind::denied with what is wrong, in words for whoever holds the token. `unix_ms`:
/// now.
base::Result<std::shared_ptr<Caller>> read_claims(const boost::json::object& claims,
                                                  const spec::ServerConfig::Oidc& config, std::int64_t unix_ms);

}  // namespace thaw::gateway::oidc
