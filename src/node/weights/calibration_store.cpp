#include <cerrno>
#include <cstdio>

#include <spdlog/spdlog.h>
#include <boost/json.hpp>

#include "node/sandbox/files.h"
#include "node/weights/direct_file.h"
#include "node/weights/disk_calibration.h"
#include "node/weights/said_once.h"
#include "wire/object_reader.h"

namespace thaw::node {
namespace {

namespace json = boost::json;

// Another version is another form: it is ignored, and replaced by the next calibration.
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kMaxDisks = 256;

json::object to_json(const DiskCalibration& calibration) {
  return {{"id", calibration.disk.id},
          {"name", calibration.disk.name},
          {"kind", calibration.disk.kind},
          {"model", calibration.disk.model},
          {"chunk_bytes", calibration.settings.chunk_bytes},
          {"depth", calibration.settings.depth},
          {"bytes_per_s", static_cast<std::uint64_t>(calibration.bytes_per_s)},
          {"buffered_why", calibration.buffered_why},
          {"threads_why", calibration.threads_why},
          {"unix_s", static_cast<std::uint64_t>(calibration.unix_s)}};
}

void read_calibration(wire::ObjectReader& reader, DiskCalibration& into) {
  std::uint64_t depth = 0;
  std::uint64_t bytes_per_s = 0;
  std::uint64_t unix_s = 0;
  reader.text("id", into.disk.id);
  reader.text("name", into.disk.name);
  reader.text("kind", into.disk.kind);
  reader.text("model", into.disk.model);
  reader.natural("chunk_bytes", into.settings.chunk_bytes);
  reader.natural("depth", depth);
  reader.natural("bytes_per_s", bytes_per_s);
  reader.text("buffered_why", into.buffered_why);
  reader.text("threads_why", into.threads_why);
  reader.natural("unix_s", unix_s);
  into.settings.depth = depth > ReadSettings::kMaxDepth ? 0 : static_cast<std::uint32_t>(depth);
  into.bytes_per_s = static_cast<double>(bytes_per_s);
  into.unix_s = static_cast<std::int64_t>(unix_s);
  if (reader.ok() && !into.settings.in_range()) reader.fail("chunk_bytes", "and depth are no settings to read with");
}

base::Result<std::vector<DiskCalibration>> parse(const std::string& text, const std::string& path) {
  THAW_ASSIGN_OR_RETURN(const json::value value, wire::parse_json(text, path));
  wire::ObjectReader reader(value, path);
  std::uint64_t version = 0;
  std::vector<DiskCalibration> calibrations;
  reader.natural("version", version);
  if (reader.ok() && version != kVersion) reader.fail("version", "is that of another release");
  reader.list("disks", kMaxDisks, calibrations, read_calibration);
  THAW_RETURN_IF_ERROR(reader.finish());
  return calibrations;
}

base::Status replace_file(const std::string& path, const std::string& text) {
  const std::string beside = path + ".new";
  THAW_RETURN_IF_ERROR(write_file(beside, text, 0644));
  const Fd fd(::open(beside.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0 || ::rename(beside.c_str(), path.c_str()) != 0)
    return file_error("cannot write", path, errno);
  return {};
}

}  // namespace

std::string calibrations_path(const std::string& data_dir) {
  return data_dir + "/disks.json";
}

base::Result<std::vector<DiskCalibration>> stored_calibrations(const std::string& data_dir) {
  const std::string path = calibrations_path(data_dir);
  if (::access(path.c_str(), F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR)) return std::vector<DiskCalibration>{};
  THAW_ASSIGN_OR_RETURN(const std::string text, read_small_file(path));
  return parse(text, path);
}

base::Status store_calibration(const std::string& data_dir, const DiskCalibration& calibration) {
  auto known = stored_calibrations(data_dir);
  json::array disks{to_json(calibration)};
  for (const DiskCalibration& other : known.ok() ? *known : std::vector<DiskCalibration>{})
    if (other.disk.id != calibration.disk.id && disks.size() < kMaxDisks) disks.push_back(to_json(other));
  THAW_RETURN_IF_ERROR(make_directories(data_dir, 0700));
  return replace_file(calibrations_path(data_dir),
                      json::serialize(json::object{{"version", kVersion}, {"disks", std::move(disks)}}) + "\n");
}

std::optional<DiskCalibration> stored_calibration(const std::string& data_dir, const std::string& path) {
  const auto known = stored_calibrations(data_dir);
  if (!known.ok() && first_time_said("calibrations of " + data_dir))
    spdlog::info("what was measured of disks is ignored: {}; `thaw doctor --disks` measures again",
                 known.error().message);
  if (!known.ok() || known->empty()) return std::nullopt;
  const auto disk = disk_of(path);
  for (const DiskCalibration& calibration : *known)
    if (disk.ok() && calibration.disk.id == disk->id) return calibration;
  return std::nullopt;
}

ReadSettings stored_read_settings(const std::string& data_dir, const std::string& path) {
  const auto calibration = stored_calibration(data_dir, path);
  return calibration ? calibration->settings : ReadSettings{};
}

}  // namespace thaw::node
