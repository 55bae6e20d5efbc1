// What a decision takes in one scheduler of 10,000 devices and 100,000 models: the scheduler of src/control itself, a fleet that is made up.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "scale/fleet.h"

namespace {

using thaw::bench::Latencies;
using thaw::bench::ScaleFleet;
using thaw::bench::Setting;

constexpr const char* kUsage =
    "usage: bench-scale [devices=N] [models=N] [asleep=N] [rate=REQUESTS_PER_S] [service=S] [idle=timeout|auto] [warm-up=S] [seconds=S] [seed=N] [look-everywhere=DEVICES]\n";

/// Peak resident memory of this process: the scheduler's, and that of the fleet that is made up around it.
double peak_gib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::strtod(line.c_str() + 6, nullptr) / (1024 * 1024);
  }
  return 0;
}

bool parse(Setting& setting, const char* argument) {
  const char* const equals = std::strchr(argument, '=');
  if (equals == nullptr) return false;
  const std::string key(argument, equals), value(equals + 1);
  if (key == "idle") {
    setting.automatic_idle = value == "auto";
    return value == "auto" || value == "timeout";
  }
  char* end = nullptr;
  const double number = std::strtod(value.c_str(), &end);
  if (value.empty() || *end != '\0' || !(number >= 0) || number > 1e9) return false;
  const auto seconds = thaw::base::Duration(static_cast<std::int64_t>(number * 1e9));
  if (key == "devices") setting.devices = static_cast<std::uint32_t>(number);
  else if (key == "models") setting.models = static_cast<std::uint32_t>(number);
  else if (key == "asleep") setting.asleep = static_cast<std::uint32_t>(number);
  else if (key == "rate") setting.requests_per_s = number;
  else if (key == "service") setting.service_s = number;
  else if (key == "warm-up") setting.warm_up = seconds;
  else if (key == "seconds") setting.measured = seconds;
  else if (key == "look-everywhere") setting.look_everywhere_up_to = static_cast<std::uint32_t>(number);
  else if (key == "seed") setting.seed = static_cast<std::uint64_t>(number);
  else return false;
  return true;
}

void print(const std::string& event, const Latencies& l) {
  std::printf("ROW %s\t%llu\t%.2f\t%.2f\t%.2f\t%.2f\t%.1f\n", event.c_str(), static_cast<unsigned long long>(l.count()), l.mean_us(),
              l.quantile_us(0.5), l.quantile_us(0.99), l.quantile_us(0.999), l.most_us());
}

}  // namespace

int main(int argc, char** argv) {
  Setting setting;
  for (int n = 1; n < argc; ++n) {
    if (parse(setting, argv[n])) continue;
    std::fprintf(stderr, "bench-scale: cannot make sense of '%s'\n%s", argv[n], kUsage);
    return 2;
  }
  if (setting.devices == 0 || setting.models == 0 || setting.requests_per_s <= 0 || setting.service_s <= 0) {
    std::fprintf(stderr, "bench-scale: devices, models, rate and service must be more than 0\n");
    return 2;
  }
  ScaleFleet fleet(setting);
  fleet.run();
  const double gib = peak_gib();
  Latencies all;
  for (const auto& [event, l] : fleet.latencies()) {
    print(event, l);
    if (event != "node joins" && event != "model deployed") all.add(l);
  }
  print("all but the first two", all);
  std::size_t ready = 0, standby = 0, queued = 0;
  for (const auto& m : fleet.scheduler().models()) {
    ready += m.ready;
    standby += m.standby;
    queued += m.queued;
  }
  std::printf("STATE answered %llu, refused %llu, cold %llu, starts and restores %llu, wakes %llu; at the end %zu ready, %zu in standby, %zu queued, %zu images; decisions %016llx\n",
              static_cast<unsigned long long>(fleet.answered()), static_cast<unsigned long long>(fleet.refused()),
              static_cast<unsigned long long>(fleet.cold()), static_cast<unsigned long long>(fleet.starts()),
              static_cast<unsigned long long>(fleet.wakes()), ready, standby, queued, fleet.scheduler().images().size(),
              static_cast<unsigned long long>(fleet.fingerprint()));
  std::printf("VALUE p99_us %.3f\nVALUE mean_us %.3f\nVALUE peak_gib %.3f\n", all.quantile_us(0.99), all.mean_us(), gib);
}
