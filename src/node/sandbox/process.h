#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/sandbox/fd.h"

/// Processes of the node: started, watched by descriptor (a pid may be reused, a pidfd never lies), reaped one by one (never with
/// wait(-1): other parts of the program may have children too).
namespace thaw::node {

struct SpawnOptions {
  std::vector<std::string> argv;  ///< argv[0] is looked up in PATH when it has no slash
  std::vector<std::string> env = {};  ///< the whole environment, "NAME=value"
  int stdin_fd = -1;              ///< -1: /dev/null
  int output_fd = -1;             ///< stdout and stderr; -1: /dev/null
  std::string directory = {};     ///< empty: the caller's
  int error_fd = -1;              ///< stderr; -1: as stdout
  int feed_fd = -1;               ///< descriptor 3; -1: none
};

/// Starts a process with default signal handling in a session of its own (so it is also the leader of its process group).
/// The caller reaps it. Not thread-bound, but what asks for its parent's death signal gets that of the calling thread.
base::Result<pid_t> spawn(const SpawnOptions& options);

/// How a process ended.
struct Exit {
  bool signalled = false;
  int code = 0;  ///< exit status, or the signal's number

  /// "exit status 1", "signal 11 (Segmentation fault)".
  [[nodiscard]] std::string text() const;
};

/// A descriptor that polls readable once `pid` has ended. `pid` must be an unreaped child of this process.
base::Result<Fd> open_pidfd(pid_t pid);

/// Waits for the end of the process, up to `timeout`; does not reap. False: still running.
bool wait_ended(int pidfd, base::Duration timeout);

/// How an ended child ended, without reaping it (its pid stays reserved). Fails as reap() does.
base::Result<Exit> peek_exit(int pidfd);

/// Reaps an ended child. Fails with not_found when it was reaped before, unavailable when it has not ended.
base::Result<Exit> reap(int pidfd);

/// Sends a signal; true when the process was there to take it.
bool send_signal(int pidfd, int signal);

/// Runs a helper program to its end. Fails when it cannot be started, or with timeout after it and its process group were killed.
/// Leaves no zombie of its process group.
base::Result<Exit> run(const SpawnOptions& options, base::Duration timeout);

}  // namespace thaw::node
