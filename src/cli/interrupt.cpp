#include "cli/interrupt.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace thaw::cli {

Interrupt::Interrupt() {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGINT);
  fd_ = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd_ >= 0) pthread_sigmask(SIG_BLOCK, &mask, &old_mask_);
}

Interrupt::~Interrupt() {
  if (fd_ < 0) return;
  signalfd_siginfo taken{};  // a pending SIGINT was acted upon: it must not kill once it is unblocked
  while (read(fd_, &taken, sizeof taken) == static_cast<ssize_t>(sizeof taken)) {
  }
  close(fd_);
  pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
}

bool Interrupt::wait_for(base::Duration timeout) const {
  pollfd waiting{fd_, POLLIN, 0};
  return poll(&waiting, 1, static_cast<int>(base::duration_cast<base::Millis>(timeout).count())) > 0;
}

}  // namespace thaw::cli
