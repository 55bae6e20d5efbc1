#pragma once

#include <string>

#include "base/result.h"

namespace thaw::node {

/// A criu that can make images of runc sandboxes here. Immutable once found.
struct CriuInfo {
  std::string path;
  std::string version;  ///< "4.2.1"
};

/// Older ones have no `network-lock skip`, and would want iptables for a sandbox whose network reaches nobody.
inline constexpr int kOldestCriu = 318;  ///< 3.18

/// What criu 4.2.1 prints -> 402; 0: no version. Public for its test.
int criu_release(const std::string& version);

/// The first reason in what criu prints when it fails ("Error (criu/vdso.c:381): vdso: Unexpected …"), without the
/// place in its source. Public for its test.
std::string criu_reason(const std::string& output);

/// Full path of criu, or not_found with the remedy.
base::Result<std::string> find_criu();

/// Asks the criu at `path` for its version and lets it check this kernel. Blocking, some 0.1 s, at most 10 s. Fails
/// with unavailable, what is missing, and the remedy.
base::Result<CriuInfo> examine_criu_at(const std::string& path);

}  // namespace thaw::node
