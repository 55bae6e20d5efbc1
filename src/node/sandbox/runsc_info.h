#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/result.h"

namespace thaw::node {

/// Which runsc this host has, and what it can do: releases differ by years (Debian 12's is of December 2022), so
/// nothing is taken for granted. Immutable once found.
struct RunscInfo {
  std::string path;
  std::string version;               ///< "release-20250106.0", "0.0~20221219.0"
  std::set<std::string> flags;       ///< global ones, without dashes: "oci-seccomp"
  std::set<std::string> checkpoint;  ///< of `runsc checkpoint`: "image-path", "compression"
  std::set<std::string> restore;     ///< of `runsc restore`: "background"
  std::set<std::string> platforms;   ///< "ptrace", "kvm", "systrap"

  /// How system calls are caught: systrap where there is one, else ptrace. kvm is never chosen by itself: it needs bare
  /// metal to be faster, and a trial to be known to work.
  [[nodiscard]] std::string platform() const { return platforms.contains("systrap") ? "systrap" : "ptrace"; }
  [[nodiscard]] bool nvproxy() const { return flags.contains("nvproxy"); }

  /// The command up to (and without) the subcommand: platform, network, filters, as far as this release knows them.
  /// `root`: where it keeps its state of the one sandbox.
  [[nodiscard]] std::vector<std::string> command(const std::string& root) const;
};

/// The flags that a runsc help text lists ("  -flag type"). Public for its test.
std::set<std::string> listed_flags(const std::string& help);

/// Full path of runsc, or not_found with the remedy.
base::Result<std::string> find_runsc();

/// Asks the runsc at `path` what it can. Blocking, some 50 ms. Fails with unavailable when it does not run.
base::Result<RunscInfo> examine_runsc_at(const std::string& path);

}  // namespace thaw::node
