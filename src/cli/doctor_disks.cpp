#include "cli/doctor_disks.h"

#include <filesystem>
#include <map>
#include <optional>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/json.h"
#include "cli/table.h"
#include "node/doctor_parts.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;
using node::DiskCalibration;

/// A disk, and the path by which it is measured.
struct Measured {
  node::Disk disk;
  std::string path;
  std::optional<DiskCalibration> calibration;
  std::string error;
};

/// Nothing but the table on standard output: what the reader logs is in the table.
class NoLog {
 public:
  NoLog() : before_(spdlog::get_level()) { spdlog::set_level(spdlog::level::off); }
  ~NoLog() { spdlog::set_level(before_); }
  NoLog(const NoLog&) = delete;
  NoLog& operator=(const NoLog&) = delete;

 private:
  spdlog::level::level_enum before_;
};

std::string reads_of(const DiskCalibration& calibration) {
  const char* way = calibration.buffered_why.empty() ? "direct" : "buffered";
  return fmt::format("{}, {}", way, calibration.threads_why.empty() ? "io_uring" : "threads");
}

std::string why_of(const Measured& measured) {
  if (!measured.calibration) return measured.error;
  const std::string& buffered = measured.calibration->buffered_why;
  const std::string& threads = measured.calibration->threads_why;
  return buffered + (buffered.empty() || threads.empty() ? "" : "; ") + threads;
}

void print(const std::vector<Measured>& all, const Context& context) {
  Table table({{"DISK"},
               {"KIND"},
               {"MOUNT"},
               {"CHUNK", Table::Align::right},
               {"DEPTH", Table::Align::right},
               {"GB/S", Table::Align::right},
               {"READS"},
               {"WHY"}});
  for (const Measured& measured : all) {
    const auto& calibration = measured.calibration;
    table.add({{measured.disk.name},
               {measured.disk.kind},
               {measured.disk.mount_point.empty() ? "-" : measured.disk.mount_point},
               {calibration ? base::format_bytes(calibration->settings.chunk_bytes) : "-"},
               {calibration ? std::to_string(calibration->settings.depth) : "-"},
               {calibration ? fmt::format("{:.2f}", calibration->bytes_per_s / 1e9) : "-"},
               {calibration ? reads_of(*calibration) : "-"},
               {why_of(measured), calibration ? Style::plain : Style::red}});
  }
  context.out << table.render(context.terminal.colours);
}

json::object to_json(const Measured& measured) {
  json::object object{{"name", measured.disk.name},
                      {"kind", measured.disk.kind},
                      {"model", measured.disk.model},
                      {"mount", measured.disk.mount_point},
                      {"file_system", measured.disk.file_system},
                      {"path", measured.path}};
  if (!measured.calibration) {
    object["error"] = measured.error;
    return object;
  }
  const DiskCalibration& calibration = *measured.calibration;
  object["chunk_bytes"] = calibration.settings.chunk_bytes;
  object["depth"] = calibration.settings.depth;
  object["bytes_per_s"] = static_cast<std::uint64_t>(calibration.bytes_per_s);
  object["direct"] = calibration.buffered_why.empty();
  object["io_uring"] = calibration.threads_why.empty();
  object["why"] = why_of(measured);
  return object;
}

/// Each disk once, a file before a directory: it is read, where in a directory one has to be written first.
std::vector<Measured> disks_of(const std::vector<std::string>& paths) {
  std::vector<Measured> all;
  std::map<std::string, std::size_t> known;
  for (const std::string& path : paths) {
    const auto disk = node::disk_of(path);
    if (!disk.ok()) {
      all.push_back({{"", path, "-", "", "", ""}, path, std::nullopt, disk.error().message});
      continue;
    }
    const auto [found, is_new] = known.try_emplace(disk->id, all.size());
    if (is_new) all.push_back({*disk, path, std::nullopt, ""});
    std::error_code error;
    Measured& measured = all[found->second];
    if (!std::filesystem::is_regular_file(measured.path, error) && std::filesystem::is_regular_file(path, error))
      measured.path = path;
  }
  return all;
}

}  // namespace

std::vector<std::string> deployed_files(const Context& context) {
  std::vector<std::string> files;
  const auto body = context.call({"GET", "/admin/v1/models", ""});
  if (!body.ok()) return files;
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return files;
  for (const json::object* model : objects_of(*answer, "models"))
    if (std::string file = text_of(*model, "source"); !file.empty()) files.push_back(std::move(file));
  return files;
}

int measure_disks(Context& context, const node::AgentConfig& config, const std::vector<std::string>& paths) {
  const NoLog quiet;
  std::vector<std::string> all_paths{node::existing_data_dir(config)};
  for (const std::string& file : deployed_files(context)) all_paths.push_back(file);
  all_paths.insert(all_paths.end(), paths.begin(), paths.end());
  std::vector<Measured> all = disks_of(all_paths);
  bool ok = true;
  for (Measured& measured : all) {
    if (measured.error.empty()) {
      if (context.terminal.err_is_terminal)
        context.err << fmt::format("measuring {} at {} ...\n", measured.disk.name, measured.path) << std::flush;
      auto calibration = context.calibrate_disk(measured.path);
      const base::Status stored =
          calibration.ok() ? node::store_calibration(config.data_dir, *calibration) : base::Status(calibration.error());
      if (calibration.ok()) measured.calibration = *calibration;
      if (!stored.ok()) measured.error = stored.error().message;
      if (calibration.ok() && !stored.ok())
        context.err << "thaw: what was measured is not remembered: " << measured.error << '\n';
    }
    ok = ok && measured.error.empty();
  }
  if (context.json) {
    json::array disks;
    for (const Measured& measured : all) disks.push_back(to_json(measured));
    context.out << json::serialize(json::object{
                       {"ok", ok}, {"stored", node::calibrations_path(config.data_dir)}, {"disks", std::move(disks)}})
                << '\n';
  } else {
    print(all, context);
  }
  return ok ? kExitOk : kExitFailure;
}

}  // namespace thaw::cli
