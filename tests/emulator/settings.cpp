#include "settings.h"

#include <cstdlib>
#include <sstream>

namespace thaw::emulator {
namespace {

std::string variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): tests set it between calls
  return value != nullptr ? value : otherwise;
}

/// "a=1,b=2" -> {"a", "1"}, {"b", "2"}
std::vector<std::pair<std::string, std::string>> pairs(const std::string& text, char separator) {
  std::vector<std::pair<std::string, std::string>> result;
  std::istringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) {
    const std::size_t at = item.find(separator);
    if (at != std::string::npos) result.emplace_back(item.substr(0, at), item.substr(at + 1));
  }
  return result;
}

}  // namespace

int Settings::failure(const char* function) const {
  for (const Failure& entry : failures) {
    if (entry.function == function) return entry.code;
  }
  return 0;
}

Settings read_settings() {
  Settings settings;
  settings.devices = std::stoi(variable("THAW_EMULATOR_DEVICES", "1"));
  settings.memory_bytes = std::stoull(variable("THAW_EMULATOR_MEMORY_MIB", "16384")) << 20;
  settings.name = variable("THAW_EMULATOR_NAME", "Emulated GPU");
  for (const auto& [function, code] : pairs(variable("THAW_EMULATOR_FAIL", ""), '=')) settings.failures.push_back({function, std::stoi(code)});
  for (const auto& [device, pid] : pairs(variable("THAW_EMULATOR_PROCESSES", ""), ':')) {
    settings.processes.push_back({static_cast<unsigned int>(std::stoul(device)), static_cast<unsigned int>(std::stoul(pid))});
  }
  return settings;
}

void fill_uuid(int device, char* bytes) {
  for (int i = 0; i < 16; ++i) bytes[i] = static_cast<char>(0xA0 + device * 16 + i);
}

}  // namespace thaw::emulator
