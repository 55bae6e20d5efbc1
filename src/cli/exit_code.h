#pragma once

#include "base/result.h"

namespace thaw::cli {

/// What a script can tell from `thaw`'s exit status. Documented in `thaw --help`: a number never changes its meaning.
enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,       ///< the server or the machine said no, or the answer broke off
  kExitUsage = 2,         ///< wrong flags, or a spec or model file that is refused
  kExitUnreachable = 3,   ///< no server answers at the URL
  kExitNotFound = 4,      ///< no such model, or no such file
  kExitDenied = 5,        ///< the server refused the API key
  kExitInterrupted = 130  ///< Ctrl-C, as shells count it
};

/// The exit code that tells scripts what kind of failure it was. `unavailable` means that no server answered.
int exit_code_for(base::ErrorKind kind);

}  // namespace thaw::cli
