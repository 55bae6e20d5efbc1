#pragma once

#include <string>

#include "base/result.h"
#include "node/sandbox/fd.h"

namespace thaw::node {

/// The engine's socket in its run directory.
inline constexpr const char* kSocketName = "engine.sock";

/// Two ends, ours and the one that a child gets.
struct FdPair {
  Fd ours;
  Fd theirs;
};

/// thaw-init's descriptor 0 and our end of it. Our end holds a whole message without blocking.
base::Result<FdPair> make_control_pair();

/// stdout and stderr of a sandbox; our end is non-blocking.
base::Result<FdPair> make_output_pipe();

/// What a program waits for on its descriptor 0; our end is non-blocking, and holds a whole message.
base::Result<FdPair> make_feed_pipe();

/// What can be read from a non-blocking descriptor right now, at most 64 KiB.
std::string read_available(int fd);

}  // namespace thaw::node
