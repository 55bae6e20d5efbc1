#pragma once

#include <string>

#include "base/result.h"

namespace thaw::node::pull {

/// The SHA-1 by which git knows a file: of "blob BYTES\0" and its bytes. A hub says it of small files, of which it says no SHA-256. `fd`: read from
/// its beginning.
base::Result<std::string> git_blob_of(int fd);

}  // namespace thaw::node::pull
