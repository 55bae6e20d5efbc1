#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/sandbox/cgroup.h"

namespace thaw::node {

/// The problem: skopeo and umoci read what strangers wrote (manifests, archives, answers of registries), and what they are told by them they would do
/// as root. So they run as a user that owns nothing but where they are to write, without privileges, in a network namespace that reaches nobody or
/// only our proxy, in a control group with limits, and for a bounded time.
struct ConfinedProgram {
  std::vector<std::string> argv;       ///< argv[0]: full path
  std::vector<std::string> env = {};   ///< "NAME=value", beside PATH, HOME and TMPDIR
  std::string directory = "/";         ///< working directory; entered before the rights are dropped
  std::uint32_t uid = 0;               ///< and gid; > 0
  std::string temporary;               ///< HOME and TMPDIR: a directory of that user's
  std::string network_namespace = {};  ///< file of the one to run in; empty: one of its own, with nothing in it
  std::uint64_t max_file_bytes = 0;    ///< of any one file that it writes
  base::Duration timeout{};
  /// Looked at several times a second: an error ends the program, and is the result.
  std::function<base::Status()> watch = {};
};

struct ConfinedOutput {
  std::string out;  ///< at most 4 MiB of it
  std::string err;  ///< the end of it, at most 64 KiB
};

/// Runs it to its end. `cgroup`: made for it and removed after it; null: none (tests without one).
/// Errors: unavailable with the last line of what it said when it failed; timeout; unavailable when stopped; what `watch` said; io.
base::Result<ConfinedOutput> run_confined(const ConfinedProgram& program, const Cgroup* cgroup, const std::stop_token& stop);

/// What skopeo or umoci said, as one line for people: the message of the last line of its log.
std::string last_words(const std::string& err);

}  // namespace thaw::node
