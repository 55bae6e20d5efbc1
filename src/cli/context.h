#pragma once

#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/client.h"
#include "cli/credentials.h"
#include "cli/exit_code.h"
#include "cli/serve.h"
#include "cli/terminal.h"
#include "node/agent.h"
#include "node/weights/disk_calibration.h"

namespace thaw::cli {

/// What commands get from outside: streams, terminal, environment, and the two things that are not HTTP calls. main()
/// fills it with the real ones, a test with its own. Everything in it outlives the command. One thread.
struct Context {
  std::ostream& out;
  std::ostream& err;
  Terminal terminal;
  Environment environment;
  std::function<int(const ServeOptions&)> serve;
  std::function<std::vector<node::Finding>(const node::AgentConfig&, const std::vector<std::string>&)> examine_host;
  /// Measures the disk of a file or directory: some seconds.
  std::function<base::Result<node::DiskCalibration>(const std::string&)> calibrate_disk = [](const std::string& path) {
    return node::calibrate_disk(path);
  };
  std::istream& in = std::cin;  ///< what a person types
  std::string tenant{};  ///< --tenant: whose things; empty: the key's own, or all that it may see
  bool json = false;  ///< --json was given: standard output carries JSON and nothing else

  /// A client of the server that the environment or the credentials file names.
  [[nodiscard]] base::Result<Client> client() const;

  /// One call of the server's API: the answer's body.
  [[nodiscard]] base::Result<std::string> call(const HttpRequest& request) const;

  /// Prints "thaw: MESSAGE" on the error stream. Returns the exit code for that kind of error.
  int fail(const base::Error& error) const;

  /// Prints the server's JSON as it is, as one line. Returns kExitOk.
  int print_json(std::string_view body) const;
};

}  // namespace thaw::cli
