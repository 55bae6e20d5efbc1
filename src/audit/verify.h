#pragma once

#include <string>

#include "audit/chain_checker.h"

namespace thaw::audit {

struct VerifyOptions {
  std::string directory;    ///< of the log
  std::string anchor_path;  ///< signed heads, one a line, that were kept elsewhere; empty: only those beside the log
  std::string public_key_path;  ///< PEM; empty: DIRECTORY/signing.pub
};

/// Reads a whole log and says what is wrong with it, and where. May run while a server writes to it. Takes about a
/// second for 100 MB. An error means that it could not be read at all.
base::Result<Report> verify(const VerifyOptions& options);

}  // namespace thaw::audit
