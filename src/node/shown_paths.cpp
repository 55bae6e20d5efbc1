#include "node/shown_paths.h"

#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

constexpr std::array kSystem{"/etc", "/proc", "/sys", "/dev", "/run/thaw"};
// What lies in a data directory beside weights that may be served from there.
constexpr std::array kOwn{"thaw.db", "thaw.db-wal", "thaw.db-shm", "client.json", "logs", "audit", "images", "compile-caches", "instances", "oci"};

std::string resolved(const std::string& path) {
  std::error_code error;
  fs::path at = fs::weakly_canonical(path, error);
  return error ? fs::path(path).lexically_normal().string() : at.string();
}

bool is_within(std::string_view path, const std::string& directory) {
  return path == directory || (path.starts_with(directory) && (directory == "/" || path[directory.size()] == '/'));
}

}  // namespace

base::Status check_shown_paths(const std::vector<std::string>& paths, const std::string& data_dir, const std::string& secrets_dir) {
  std::vector<std::string> closed(kSystem.begin(), kSystem.end());
  closed.push_back(resolved(secrets_dir));
  const std::string data = resolved(data_dir);
  for (const char* name : kOwn) closed.push_back(data + "/" + name);
  for (const std::string& path : paths) {
    if (path.empty()) continue;
    const std::string at = resolved(path);
    for (const std::string& one : closed)
      if (is_within(at, one) || is_within(one, at))
        return base::Error{base::ErrorKind::denied,
                           fmt::format("cannot show {} to an engine: it is, holds or lies in {}, which is not for engines; put the files elsewhere", path, one)};
  }
  return {};
}

base::Status check_readable(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return base::errno_error("cannot read " + path, errno);
  const bool directory = S_ISDIR(status.st_mode);
  const mode_t needed = directory ? S_IROTH | S_IXOTH : S_IROTH;
  if ((status.st_mode & needed) == needed) return {};
  return base::Error{base::ErrorKind::denied, fmt::format("cannot serve {}: the engine runs as an unprivileged user and may not read it; run chmod {} {}",
                                              path, directory ? "-R o+rX" : "o+r", path)};
}

}  // namespace thaw::node
