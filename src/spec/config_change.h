#pragma once

#include <string>
#include <vector>

#include "spec/server_config.h"

namespace thaw::spec {

/// What a configuration that was read again changes.
struct ConfigChange {
  std::vector<std::string> applied;        ///< keys whose new value counts from now on: "log.level"
  std::vector<std::string> needs_restart;  ///< ... whose old value counts until the server is started again
  [[nodiscard]] bool empty() const { return applied.empty() && needs_restart.empty(); }
};

/// Takes from `read` into `running` what can change in a running server; the rest of `running` stays as it is.
ConfigChange take_over(ServerConfig& running, const ServerConfig& read);

/// All keys that take_over looks at, as they stand in the file: a test holds them against the schema.
std::vector<std::string> compared_keys();

}  // namespace thaw::spec
