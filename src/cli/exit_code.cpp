#include "cli/exit_code.h"

namespace thaw::cli {

int exit_code_for(base::ErrorKind kind) {
  switch (kind) {
    case base::ErrorKind::invalid:
      return kExitUsage;
    case base::ErrorKind::not_found:
      return kExitNotFound;
    case base::ErrorKind::denied:
      return kExitDenied;
    case base::ErrorKind::unavailable:
      return kExitUnreachable;
    case base::ErrorKind::conflict:
    case base::ErrorKind::exhausted:
    case base::ErrorKind::timeout:
    case base::ErrorKind::io:
    case base::ErrorKind::internal:
      return kExitFailure;
  }
  return kExitFailure;
}

}  // namespace thaw::cli
