#pragma once

#include <string>

#include <boost/json/value.hpp>

namespace thaw::node {

struct SeccompOptions {
  /// For a sandbox that has a kernel of its own (gVisor). Its older releases answer every refused call with EPERM, clone3 too, which no C library
  /// takes for "use clone"; so clone3 is left to that kernel. Those releases do not have it (ENOSYS), and a namespace that a newer one makes is its
  /// own affair: nothing of the host's. Nor do they know how to end a process for a call: there the fatal ones are refused like others.
  bool own_kernel = false;
  /// Unix socket at which somebody takes what is refused and answers it (refusals.h); empty: the kernel refuses by itself. Not with own_kernel.
  std::string report_socket = {};
};

/// The OCI "linux.seccomp" object for engines: an allow-list (seccomp_calls.h) in the manner of Docker's default profile, less what needs a
/// capability (engines have none), io_uring (left out by Docker too), key rings and other architectures' calls. What is not listed fails with EPERM;
/// clone3 with ENOSYS, so that the C library falls back to clone, whose namespace flags can be checked.
boost::json::value seccomp_profile(const SeccompOptions& options);

}  // namespace thaw::node
