#pragma once

#include <boost/json/value.hpp>

namespace thaw::node {

/// The OCI "linux.seccomp" object for engines: an allow-list in the manner of Docker's default profile, less what needs a capability (engines
/// have none), io_uring (left out by Docker too), key rings and other architectures' calls. What is not listed fails with EPERM;
/// clone3 with ENOSYS, so that the C library falls back to clone, whose namespace flags can be checked.
///
/// `own_kernel`: for a sandbox that has one (gVisor). Its older releases answer every refused call with EPERM, clone3 too, which no C library takes
/// for "use clone"; so clone3 is left to that kernel. Those releases do not have it (ENOSYS), and a namespace that a newer one makes is its own
/// affair: nothing of the host's.
boost::json::value seccomp_profile(bool own_kernel);

}  // namespace thaw::node
