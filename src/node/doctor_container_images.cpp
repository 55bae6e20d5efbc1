#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include <fmt/format.h>

#include "base/units.h"
#include "node/doctor_parts.h"
#include "node/oci/oci_tools.h"

namespace thaw::node {
namespace {

constexpr const char* kTopic = "container images";

bool kernel_has_overlayfs() {
  std::ifstream table("/proc/filesystems");
  for (std::string line; std::getline(table, line);)
    if (line.ends_with("\toverlay")) return true;
  return ::access("/sys/module/overlay", F_OK) == 0;
}

}  // namespace

Finding examine_container_images(const AgentConfig& config) {
  const auto& settings = config.settings.container_images;
  if (settings.budget_bytes == 0) return {kTopic, Level::note, "turned off (node.containerImages.budget is 0)", "raise it to have them"};
  if (!find_skopeo().ok() || !find_umoci().ok())
    return {kTopic, Level::note, fmt::format("models cannot have them (spec.image): {} is not installed", find_skopeo().ok() ? "umoci" : "skopeo"),
            "apt-get install skopeo umoci"};
  for (const auto& [key, path] : {std::pair{"policy", settings.policy_path}, std::pair{"authFile", settings.auth_file}})
    if (!path.empty() && ::access(path.c_str(), R_OK) != 0)
      return {kTopic, Level::warning, fmt::format("no image can be fetched: node.containerImages.{} is {}, which cannot be read", key, path),
              "correct the path, or leave the key out"};
  if (!kernel_has_overlayfs())
    return {kTopic, Level::note, "the kernel has no overlayfs (yet): it is loaded by the first image, or cannot be", "modprobe overlay"};
  return {kTopic, Level::ok,
          fmt::format("skopeo and umoci are there; up to {}, {}", base::format_bytes(settings.budget_bytes),
                      settings.policy_path.empty() ? "signatures are not asked for" : "signatures as " + settings.policy_path + " says"),
          ""};
}

}  // namespace thaw::node
