#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "node/pull/puller.h"
#include "spec/server_config.h"

namespace thaw::node::pull {

/// What to pull with, from the server's configuration and, where that says nothing, HF_ENDPOINT and HF_TOKEN. The hub that the operator named so is
/// trusted with its address: it may be in a private network, and without TLS. Reads the token's file. Errors: invalid, io, not_found, naming the key.
base::Result<PullerOptions> puller_options(const spec::ServerConfig::Sources& sources,
                                           const std::function<std::optional<std::string>(const char*)>& environment);

}  // namespace thaw::node::pull
