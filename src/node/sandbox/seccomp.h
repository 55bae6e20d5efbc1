#pragma once

#include <boost/json/value.hpp>

namespace thaw::node {

/// The OCI "linux.seccomp" object for engines: an allow-list in the manner of Docker's default profile, less what needs a capability (engines
/// have none), io_uring (left out by Docker too), key rings and other architectures' calls. What is not listed fails with EPERM;
/// clone3 with ENOSYS, so that the C library falls back to clone, whose namespace flags can be checked.
boost::json::value seccomp_profile();

}  // namespace thaw::node
