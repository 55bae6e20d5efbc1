#include "base/result.h"

#include <system_error>

namespace thaw::base {

const char* to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid: return "invalid";
    case ErrorKind::not_found: return "not_found";
    case ErrorKind::conflict: return "conflict";
    case ErrorKind::denied: return "denied";
    case ErrorKind::exhausted: return "exhausted";
    case ErrorKind::unavailable: return "unavailable";
    case ErrorKind::timeout: return "timeout";
    case ErrorKind::io: return "io";
    case ErrorKind::internal: return "internal";
  }
  return "internal";
}

Error errno_error(const std::string& what, int error_number) {
  return {ErrorKind::io, what + ": " + std::generic_category().message(error_number)};
}

}  // namespace thaw::base
