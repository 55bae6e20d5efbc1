#include <cerrno>
#include <set>
#include <system_error>

#include <fmt/format.h>

#include "base/units.h"
#include "node/doctor_parts.h"
#include "node/weights/direct_file.h"
#include "node/weights/disk_calibration.h"

namespace thaw::node {
namespace {

constexpr std::size_t kMaxLookedAt = 1000;  // model files; there are few disks
constexpr const char* kMeasure = "thaw doctor --disks measures it in three seconds";

std::string name_of(const Disk& disk) {
  return fmt::format("{} ({}{})", disk.name, disk.kind, disk.mount_point.empty() ? "" : " at " + disk.mount_point);
}

Finding examine_speed(const Disk& disk, const std::vector<DiskCalibration>& stored) {
  const ReadSettings defaults;
  for (const DiskCalibration& calibration : stored) {
    if (calibration.disk.id != disk.id) continue;
    const std::string how =
        calibration.buffered_why.empty() ? "directly" : "through the page cache (" + calibration.buffered_why + ")";
    const std::string by = calibration.threads_why.empty() ? "" : ", by threads (" + calibration.threads_why + ")";
    return {"disk speed", Level::ok,
            fmt::format("{}: {:.1f} GB/s, read {} in {} x {}{}", name_of(disk), calibration.bytes_per_s / 1e9, how,
                        base::format_bytes(calibration.settings.chunk_bytes), calibration.settings.depth, by),
            ""};
  }
  return {"disk speed", Level::note,
          fmt::format("{}: not measured; read in {} x {}", name_of(disk), base::format_bytes(defaults.chunk_bytes),
                      defaults.depth),
          kMeasure};
}

/// Whether a model's file can be read directly.
Finding examine_model_file(const Disk& disk, const std::string& file) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_DIRECT | O_NONBLOCK | O_CLOEXEC));
  if (fd) return {"models", Level::ok, "direct I/O works on " + name_of(disk), ""};
  const std::string why = std::generic_category().message(errno);
  if (!refuses_direct(errno))
    return {"models", Level::note, fmt::format("cannot open {}: {}", file, why), "run thaw doctor as root"};
  return {"models", Level::note,
          fmt::format("no direct I/O on {}: {} is read through the page cache", name_of(disk), file),
          "keep models on ext4 or XFS"};
}

}  // namespace

std::vector<Finding> examine_disks(const AgentConfig& config, const std::vector<std::string>& model_files) {
  std::vector<Finding> findings;
  const auto stored = stored_calibrations(config.data_dir);
  if (!stored.ok())
    findings.push_back({"disk speed", Level::note, "what was measured is ignored: " + stored.error().message,
                        "thaw doctor --disks measures again"});
  const auto known = stored.ok() ? *stored : std::vector<DiskCalibration>{};
  std::set<std::string> seen;
  if (const auto disk = disk_of(existing_data_dir(config)); disk.ok()) {
    seen.insert(disk->id);
    findings.push_back(examine_speed(*disk, known));
  }
  std::set<std::string> seen_of_models;
  for (std::size_t i = 0; i < model_files.size() && i < kMaxLookedAt; ++i) {
    const auto disk = disk_of(model_files[i]);
    if (!disk.ok()) {
      findings.push_back({"models", Level::warning, disk.error().message, "put the file back, or thaw rm the model"});
      continue;
    }
    if (seen_of_models.insert(disk->id).second) findings.push_back(examine_model_file(*disk, model_files[i]));
    if (seen.insert(disk->id).second) findings.push_back(examine_speed(*disk, known));
  }
  return findings;
}

}  // namespace thaw::node
