#include "node/sandbox/criu_info.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <sstream>
#include <vector>

#include <fmt/format.h>

#include "node/sandbox/pipes.h"
#include "node/sandbox/process.h"
#include "node/sandbox/search_path.h"

namespace thaw::node {
namespace {

constexpr auto kCallTimeout = base::Seconds(5);
constexpr std::size_t kMaxReason_chars = 200;
constexpr const char* kNewer = "install a newer criu (Debian has one in later releases; criu.org has the source)";

struct Said {
  Exit exit;
  std::string text;  ///< on either stream
};

base::Result<Said> ask(const std::string& criu, const char* argument) {
  THAW_ASSIGN_OR_RETURN(FdPair output, make_output_pipe());
  THAW_ASSIGN_OR_RETURN(
      const Exit exit,
      run({.argv = {criu, argument}, .env = {search_path_variable()}, .output_fd = output.theirs.get()}, kCallTimeout));
  return Said{exit, read_available(output.ours.get())};
}

}  // namespace

int criu_release(const std::string& version) {
  int major = 0;
  int minor = 0;
  // NOLINTNEXTLINE(cert-err34-c): what is no number leaves both at 0
  return std::sscanf(version.c_str(), "%d.%d", &major, &minor) >= 1 ? major * 100 + minor : 0;
}

std::string criu_reason(const std::string& output) {
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    // "(00.012345)      1: Error (criu/file.c:123): what". A child's "exited, status=1" says nothing.
    const std::size_t error = line.find("Error (");
    const std::size_t colon = error == std::string::npos ? error : line.find("): ", error);
    if (colon == std::string::npos || line.find("exited, status=") != std::string::npos) continue;
    return line.substr(colon + 3, kMaxReason_chars);
  }
  const std::size_t end = output.find_last_not_of('\n');
  if (end == std::string::npos) return "it gave no reason";
  const std::size_t last = output.rfind('\n', end);
  return output.substr(last == std::string::npos ? 0 : last + 1, end - (last == std::string::npos ? 0 : last + 1) + 1)
      .substr(0, kMaxReason_chars);
}

base::Result<std::string> find_criu() {
  if (std::string path = find_in_search_path("criu"); !path.empty()) return path;
  return base::Error{base::ErrorKind::not_found,
                     "criu is not installed; install criu 3.18 or newer for images of models under runc"};
}

base::Result<CriuInfo> examine_criu_at(const std::string& path) {
  const auto error = [](std::string why) { return base::Error{base::ErrorKind::unavailable, std::move(why)}; };
  if (::geteuid() != 0) return error("criu needs root; run thaw as root");
  if (std::filesystem::path(path).filename() != "criu")
    return error(path + " has to be called criu; runc looks for that name");
  THAW_ASSIGN_OR_RETURN(const Said version, ask(path, "--version"));
  CriuInfo info{path, {}};
  std::istringstream words(version.text);  // "Version: 4.2.1"
  for (std::string word; words >> word && info.version.empty();)
    if (criu_release(word) > 0) info.version = word;
  if (info.version.empty())
    return error(fmt::format("{} does not tell its version ({}); {}", path, criu_reason(version.text), kNewer));
  if (criu_release(info.version) < kOldestCriu)
    return error(fmt::format("criu {} is older than 3.18; {}", info.version, kNewer));
  const auto check = ask(path, "check");
  if (!check.ok())
    return error(fmt::format("criu {}: {}; see what `criu check` waits for", info.version, check.error().message));
  if (check->exit.signalled || check->exit.code != 0)
    return error(fmt::format("criu {} does not work on this kernel (criu check: {}); {}", info.version,
                             criu_reason(check->text), kNewer));
  return info;
}

}  // namespace thaw::node
