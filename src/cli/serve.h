#pragma once

#include <optional>
#include <string>

#include "spec/server_config.h"

namespace thaw::cli {

/// `thaw serve`'s flags, already checked one by one. What is absent keeps the configuration file's value, else the
/// default.
struct ServeOptions {
  std::string config_path;                   ///< --config FILE; empty: none given
  std::optional<std::string> data_dir;       ///< --data-dir DIR
  std::optional<std::string> listen;         ///< --listen, valid for spec::parse_listen
  bool dev = false;                          ///< --dev: no API key asked for, loopback only
  std::optional<spec::SandboxKind> sandbox;  ///< --sandbox=runc|runsc|none
  std::optional<std::string> log_level;      ///< --log-level=debug|info|warn|error
  bool log_json = false;                     ///< --json: log lines as JSON
};

/// Runs gateway, controller, node and store in this process until SIGTERM or SIGINT has drained it.
/// Blocking; speaks on stderr. Returns the process's exit code (exit_code.h).
int run_serve(const ServeOptions& options);

}  // namespace thaw::cli
