#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "node/agent.h"
#include "spec/server_config.h"

namespace thaw::cli {

/// `thaw doctor --security`: what in a server's configuration and files lets others in, each with its remedy. `config_path`: its file, empty if there
/// is none. Reads files' modes, the certificate, and when the audit log was last anchored; changes nothing.
std::vector<node::Finding> examine_security(const spec::ServerConfig& config, const std::string& config_path, std::int64_t now_unix_s);

}  // namespace thaw::cli
