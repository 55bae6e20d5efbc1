#include "settings.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>

namespace thaw::emulator {
namespace {

constexpr int kMaxDevices = 16;  // as many as machine.h has room for

std::string environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): tests set it between calls
  return value != nullptr ? value : "";
}

/// The lines NAME=VALUE of the machine's file.
std::map<std::string, std::string> file_settings() {
  std::map<std::string, std::string> lines;
  const std::string directory = machine_directory();
  if (directory.empty()) return lines;
  std::ifstream file(directory + "/settings");
  for (std::string line; std::getline(file, line);) {
    const std::size_t at = line.find('=');
    if (at != std::string::npos) lines[line.substr(0, at)] = line.substr(at + 1);
  }
  return lines;
}

class Source {
 public:
  std::string text(const std::string& name, const char* otherwise) const {
    const auto line = lines_.find(name);
    const std::string value = line != lines_.end() ? line->second : environment(name.c_str());
    return value.empty() ? otherwise : value;
  }
  std::uint64_t number(const std::string& name, std::uint64_t otherwise) const {
    const std::string value = text(name, "");
    return value.empty() ? otherwise : std::stoull(value);
  }
  Settings::Step step(const std::string& name) const { return {number(name + "_MS", 0), number(name + "_MB_S", 0)}; }

 private:
  std::map<std::string, std::string> lines_ = file_settings();
};

std::vector<std::string> items(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) result.push_back(item);
  return result;
}

/// "a=1,b=2" -> {"a", "1"}, {"b", "2"}
std::vector<std::pair<std::string, std::string>> pairs(const std::string& text, char separator) {
  std::vector<std::pair<std::string, std::string>> result;
  for (const std::string& item : items(text)) {
    const std::size_t at = item.find(separator);
    if (at != std::string::npos) result.emplace_back(item.substr(0, at), item.substr(at + 1));
  }
  return result;
}

/// "cuInit=999", "cuInit=999@3", "cuInit=999@3+"
std::vector<Settings::Failure> failures_of(const std::string& text) {
  std::vector<Settings::Failure> result;
  for (const auto& [function, value] : pairs(text, '=')) {
    Settings::Failure failure{function, std::stoi(value)};
    if (const std::size_t at = value.find('@'); at != std::string::npos) {
      failure.from = std::stoull(value.substr(at + 1));
      if (value.back() != '+') failure.to = failure.from;
    }
    result.push_back(failure);
  }
  return result;
}

std::mutex counts_mutex;
std::map<std::string, std::uint64_t>& counts() {
  static auto* const map = new std::map<std::string, std::uint64_t>;  // never destroyed: threads may still call
  return *map;
}

int code_of(const std::vector<Settings::Failure>& failures, const char* function) {
  std::uint64_t call = 0;
  for (const Settings::Failure& entry : failures) {
    if (entry.function != function) continue;
    if (call == 0) {
      const std::lock_guard lock(counts_mutex);
      call = ++counts()[function];
    }
    if (call >= entry.from && call <= entry.to) return entry.code;
  }
  return 0;
}

}  // namespace

int Settings::failure(const char* function) const {
  return code_of(failures, function);
}
int Settings::broken(const char* function) const {
  return code_of(breaks, function);
}

const std::string& Settings::name(int device) const {
  return names[std::min(static_cast<std::size_t>(device), names.size() - 1)];
}

std::vector<int> Settings::visible() const {
  std::vector<int> result;
  if (all_visible) {
    for (int device = 0; device < devices; ++device) result.push_back(device);
    return result;
  }
  // As the driver does: whatever comes after the first entry that names no device is invisible too.
  for (const std::string& item : items(visible_devices)) {
    int found = -1;
    for (int device = 0; device < devices; ++device) {
      const bool by_uuid = item.size() > 4 && uuid_text(device).starts_with(item);
      if (by_uuid || item == std::to_string(device)) found = device;
    }
    if (found < 0 || std::find(result.begin(), result.end(), found) != result.end()) break;
    result.push_back(found);
  }
  return result;
}

Settings read_settings() {
  const Source source;
  Settings settings;
  settings.devices = std::min(kMaxDevices, static_cast<int>(source.number("THAW_EMULATOR_DEVICES", 1)));
  settings.memory_bytes = source.number("THAW_EMULATOR_MEMORY_MIB", 16384) << 20;
  settings.context_bytes = source.number("THAW_EMULATOR_CONTEXT_MIB", 128) << 20;
  settings.leftovers = source.number("THAW_EMULATOR_LEFTOVERS", 0) != 0;
  settings.cuda_version = static_cast<int>(source.number("THAW_EMULATOR_CUDA", 13000));
  settings.names = items(source.text("THAW_EMULATOR_NAME", "Emulated GPU"));
  settings.all_visible =
      std::getenv("CUDA_VISIBLE_DEVICES") == nullptr;  // NOLINT(concurrency-mt-unsafe): an empty one shows no device
  settings.visible_devices = environment("CUDA_VISIBLE_DEVICES");
  for (const auto& [device, pid] : pairs(source.text("THAW_EMULATOR_PROCESSES", ""), ':'))
    settings.processes.push_back(
        {static_cast<unsigned int>(std::stoul(device)), static_cast<unsigned int>(std::stoul(pid))});
  settings.bus_mb_s = source.number("THAW_EMULATOR_BUS_MB_S", 0);
  settings.pageable_mb_s = source.number("THAW_EMULATOR_PAGEABLE_MB_S", settings.bus_mb_s / 2);
  settings.pin_mb_s = source.number("THAW_EMULATOR_PIN_MB_S", 0);
  settings.lock = source.step("THAW_EMULATOR_LOCK");
  settings.checkpoint = source.step("THAW_EMULATOR_CHECKPOINT");
  settings.restore = source.step("THAW_EMULATOR_RESTORE");
  settings.unlock = source.step("THAW_EMULATOR_UNLOCK");
  settings.failures = failures_of(source.text("THAW_EMULATOR_FAIL", ""));
  settings.breaks = failures_of(source.text("THAW_EMULATOR_BREAK", ""));
  return settings;
}

std::string machine_directory() {
  return environment("THAW_EMULATOR_DIR");
}

void reset_call_counts() {
  const std::lock_guard lock(counts_mutex);
  counts().clear();
}

void fill_uuid(int device, char* bytes) {
  for (int i = 0; i < 16; ++i) bytes[i] = static_cast<char>(0xA0 + device * 16 + i);
}

std::string uuid_text(int device) {
  char bytes[16];
  fill_uuid(device, bytes);
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    char pair[4];
    std::snprintf(pair, sizeof pair, "%02x", static_cast<unsigned int>(static_cast<unsigned char>(bytes[i])));
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += pair;
  }
  return text;
}

}  // namespace thaw::emulator
