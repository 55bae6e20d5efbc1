#include "node/sandbox/runsc_info.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include <fmt/format.h>

#include "node/sandbox/pipes.h"
#include "node/sandbox/process.h"
#include "node/sandbox/search_path.h"

namespace thaw::node {
namespace {

constexpr auto kHelpTimeout = base::Seconds(10);

/// What `runsc ARGUMENTS` prints, on either stream.
base::Result<std::string> output_of(const std::string& runsc, std::vector<std::string> arguments) {
  THAW_ASSIGN_OR_RETURN(FdPair output, make_output_pipe());
  arguments.insert(arguments.begin(), runsc);
  THAW_ASSIGN_OR_RETURN(
      const Exit exit,
      run({.argv = arguments, .env = {search_path_variable()}, .output_fd = output.theirs.get()}, kHelpTimeout));
  std::string text = read_available(output.ours.get());  // all of it: the help fits into a pipe
  if (exit.signalled)
    return base::Error{base::ErrorKind::unavailable,
                       fmt::format("{} ended with {}", fmt::join(arguments, " "), exit.text())};
  return text;
}

/// "runsc version release-20250106.0\nspec: 1.1.0" -> "release-20250106.0".
std::string version_in(const std::string& text) {
  std::istringstream words(text);
  std::string name;
  std::string version;
  std::string value;
  words >> name >> version >> value;
  return name == "runsc" && version == "version" ? value : std::string();
}

}  // namespace

std::set<std::string> listed_flags(const std::string& help) {
  std::set<std::string> flags;
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t dash = line.find_first_not_of(" \t");
    if (dash == 0 || dash == std::string::npos || line[dash] != '-') continue;
    const std::size_t begin = line.find_first_not_of('-', dash);
    if (begin == std::string::npos) continue;
    flags.insert(line.substr(begin, line.find_first_of(" \t=", begin) - begin));
  }
  return flags;
}

std::vector<std::string> RunscInfo::command(const std::string& root) const {
  std::vector<std::string> argv{path, "--root=" + root, "--network=sandbox", "--platform=" + platform(),
                                "--ignore-cgroups"};
  const auto if_known = [&](const char* flag, const char* value) {
    if (flags.contains(flag)) argv.push_back(fmt::format("--{}={}", flag, value));
  };
  if_known("oci-seccomp", "true");
  if_known("overlay2", "none");  // newer releases would write a file for it into the root that all sandboxes share
  if_known("host-uds", "none");  // a socket of the host would break checkpoints
  if_known("host-fifo", "none");
  if_known("net-raw", "false");
  return argv;
}

base::Result<std::string> find_runsc() {
  std::string path = find_in_search_path("runsc");
  if (!path.empty()) return path;
  return base::Error{base::ErrorKind::not_found,
                     "cannot make gVisor sandboxes: runsc is not installed; install the runsc package (apt-get install "
                     "runsc), or choose the "
                     "sandbox runc"};
}

base::Result<RunscInfo> examine_runsc_at(const std::string& path) {
  RunscInfo info;
  info.path = path;
  THAW_ASSIGN_OR_RETURN(const std::string version, output_of(path, {"--version"}));
  info.version = version_in(version);
  if (info.version.empty())
    return base::Error{base::ErrorKind::unavailable,
                       "cannot use " + path + ": it does not tell its version: " + version.substr(0, 200)};
  THAW_ASSIGN_OR_RETURN(const std::string global, output_of(path, {"flags"}));
  info.flags = listed_flags(global);
  THAW_ASSIGN_OR_RETURN(const std::string checkpoint, output_of(path, {"help", "checkpoint"}));
  info.checkpoint = listed_flags(checkpoint);
  THAW_ASSIGN_OR_RETURN(const std::string restore, output_of(path, {"help", "restore"}));
  info.restore = listed_flags(restore);
  THAW_ASSIGN_OR_RETURN(const std::string platforms, output_of(path, {"help", "platforms"}));
  for (const char* name : {"ptrace", "kvm", "systrap"})
    if (platforms.find(name) != std::string::npos) info.platforms.insert(name);
  return info;
}

}  // namespace thaw::node
