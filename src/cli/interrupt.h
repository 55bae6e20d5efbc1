#pragma once

#include <csignal>

#include "base/time.h"

namespace thaw::cli {

/// Turns Ctrl-C into something that can be waited for, so that a stream ends by closing its connection (which cancels
/// the request on the server) instead of dying between two bytes. While it lives SIGINT is blocked for the calling
/// thread and for threads started from it; the destructor puts the old mask back. Use from one thread.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  /// Becomes readable when Ctrl-C was pressed, and stays so. -1 if the kernel gave no descriptor: Ctrl-C then kills, as
  /// usual.
  [[nodiscard]] int fd() const { return fd_; }

  /// Waits for Ctrl-C; false when `timeout` passed without it.
  [[nodiscard]] bool wait_for(base::Duration timeout) const;

 private:
  sigset_t old_mask_{};
  int fd_ = -1;
};

}  // namespace thaw::cli
