#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <sstream>
#include <system_error>

#include <fmt/format.h>

#include "node/images/digest.h"
#include "node/images/manifest.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

// The loader's list of libraries is written anew whenever a package brings or changes one (ldconfig), the C library
// first of all.
constexpr const char* kLibraryCache = "/etc/ld.so.cache";
constexpr std::size_t kMaxEngineFiles = 10'000;

std::string value_of(const std::string& line) {
  const std::size_t colon = line.find(": ");
  return colon == std::string::npos ? std::string() : line.substr(colon + 2);
}

}  // namespace

base::Result<FileIdentity> identity_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return base::errno_error("cannot look at " + path, errno);
  return FileIdentity{path, static_cast<std::uint64_t>(info.st_size),
                      info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec};
}

base::Result<std::string> cpu_features(const std::string& cpuinfo) {
  THAW_ASSIGN_OR_RETURN(const std::string text, read_small_file(cpuinfo));
  std::string vendor;
  std::vector<std::string> features;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line) && features.empty();) {
    // x86: vendor_id, flags; Arm: CPU implementer, Features. Of the first CPU: the others are like it.
    if (line.starts_with("vendor_id") || line.starts_with("CPU implementer")) vendor = value_of(line);
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(value_of(line));
    for (std::string word; words >> word;) features.push_back(word);
  }
  if (features.empty())
    return base::Error{base::ErrorKind::unavailable, "cannot tell this CPU's features from " + cpuinfo};
  std::sort(features.begin(), features.end());
  return fmt::format("{} {}", vendor, fmt::join(features, " "));
}

base::Result<std::string> engine_digest(const std::string& directory) {
  std::vector<std::string> paths{kLibraryCache};
  std::error_code error;
  for (auto entry = std::filesystem::recursive_directory_iterator(directory, error);
       !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    if (entry->is_regular_file(error)) paths.push_back(entry->path());
    if (paths.size() > kMaxEngineFiles)
      return base::Error{base::ErrorKind::invalid,
                         fmt::format("cannot tell versions of the engine in {} apart: it has more than {} files; "
                                     "give it a directory of its own",
                                     directory, kMaxEngineFiles)};
  }
  if (error) return base::errno_error("cannot list " + directory, error.value());
  std::sort(paths.begin() + 1, paths.end());
  Sha256 digest;
  for (const std::string& path : paths) {
    const auto identity = identity_of(path);
    digest.add(identity.ok() ? fmt::format("{}\n{} {}\n", path, identity->bytes, identity->mtime_ns)
                             : path + "\nabsent\n");
  }
  return digest.finish();
}

}  // namespace thaw::node
