#include "cli/install_paths.h"

#include <filesystem>

#include <fmt/format.h>

namespace thaw::cli {
namespace {

constexpr const char* kInitName = "thaw-init";

}  // namespace

base::Result<std::string> find_init() {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const fs::path beside = self.parent_path() / kInitName;
  const fs::path installed = fs::path("/usr/lib/thaw") / kInitName;
  if (fs::exists(beside, error)) return beside.string();
  if (fs::exists(installed, error)) return installed.string();
  return base::Error{base::ErrorKind::not_found,
                     fmt::format("cannot find {}: looked at {} and {}; build the whole project", kInitName,
                                 beside.string(), installed.string())};
}

}  // namespace thaw::cli
