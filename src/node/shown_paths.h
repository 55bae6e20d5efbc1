#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace thaw::node {

/// The problem: a spec names files of this machine, and root shows them to an engine. What is the server's own or the kernel's must not be among them,
/// whoever wrote the spec, by whatever link.
///
/// Fails (denied) for a path that is, holds or lies in one of these: the server's database, logs, audit log, images, caches and keys in `data_dir`;
/// `secrets_dir`; /etc, /proc, /sys, /dev, /run/thaw; and for a directory that holds the data directory ("/"). Blocking: resolves links.
base::Status check_shown_paths(const std::vector<std::string>& paths, const std::string& data_dir, const std::string& secrets_dir);

/// A sandboxed engine runs as a user of its own, who can read only what everybody can. The directories above do not matter: the file itself
/// is mounted.
base::Status check_readable(const std::string& path);

}  // namespace thaw::node
