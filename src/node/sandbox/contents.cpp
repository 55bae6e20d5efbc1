#include "node/sandbox/contents.h"

#include <filesystem>

#include "node/sandbox/bundle.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

std::string file_name(const std::string& path) { return std::filesystem::path(path).filename(); }

std::vector<Exposure> exposures_of(const SandboxContents& contents) {
  std::vector<Exposure> out;
  if (!contents.engine_dir.empty()) out.push_back({contents.engine_dir, kInsideEngine, true});
  for (const std::string& path : contents.model_files) out.push_back({path, std::string(kInsideModel) + "/" + file_name(path), false});
  // What was compiled is loaded as code.
  if (!contents.cache_dir.empty()) out.push_back({contents.cache_dir, kInsideCache, true, true});
  return out;
}

}  // namespace

base::Status make_placeholders(const std::string& sandbox_dir, const SandboxContents& contents) {
  for (const std::string& path : contents.model_files) {
    const std::string place = model_dir_of(sandbox_dir) + "/" + file_name(path);
    std::error_code error;
    if (std::filesystem::is_directory(path, error))
      THAW_RETURN_IF_ERROR(make_directories(place, 0755));
    else
      THAW_RETURN_IF_ERROR(write_file(place, "", 0444));
  }
  return {};
}

base::Result<std::vector<Exposure>> lay_out(const std::string& sandbox_dir, std::uint32_t engine_uid, const SandboxContents& contents) {
  std::vector<Exposure> exposures = exposures_of(contents);
  if (contents.secrets.empty()) return exposures;
  const std::string secrets = sandbox_dir + "/secrets";
  THAW_RETURN_IF_ERROR(write_secrets(secrets, contents.secrets, engine_uid));
  exposures.push_back({secrets, kInsideSecretsMount});
  return exposures;
}

}  // namespace thaw::node
