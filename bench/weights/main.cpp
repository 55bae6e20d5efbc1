// Reads model files in one way, once, and says what it took: one JSON line. bench/weights.mjs and bench/fill_ways.mjs
// direct it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "node/weights/direct_reader.h"
#include "node/weights/page_fill.h"
#include "node/weights/read_memory.h"
#include "weights/measure.h"
#include "weights/ways.h"

namespace thaw::bench {
namespace {

constexpr const char* kUsage = R"(usage: bench-weights read FILE... [--chunk BYTES] [--depth N] [--threads]
       bench-weights limit FILE                       direct reads into as much memory as the file takes
       bench-weights fill FILE... [--workers N]      thaw's page-cache fill, from a cold page cache
       bench-weights way FILE --way NAME [--workers N] [--chunk BYTES]
       bench-weights cat FILE                         cat FILE > /dev/null, from a cold page cache
       bench-weights cold FILE...                     takes them out of the page cache

--settle-ms N waits N ms between taking files out of the page cache and reading them.

Prints {"bytes", "seconds", "cpu_s", "host_cpu_s"}; after a fill also "touch_s", mapping the file and touching each page, and
"huge_bytes", of the file mapped in huge pages then.
)";

struct Arguments {
  std::string verb;
  std::vector<std::string> files;
  std::map<std::string, std::string> options;

  [[nodiscard]] std::uint64_t number(const std::string& name, std::uint64_t otherwise) const {
    const auto found = options.find(name);
    return found == options.end() ? otherwise : std::strtoull(found->second.c_str(), nullptr, 10);
  }
  [[nodiscard]] std::uint64_t bytes() const {
    std::uint64_t total = 0;
    for (const std::string& file : files) total += bytes_of(file);
    return total;
  }
};

Arguments parse(int count, char** values) {
  Arguments arguments;
  for (int i = 1; i < count; ++i) {
    const std::string value = values[i];
    if (value == "--threads" || value == "--no-touch")
      arguments.options[value] = "1";
    else if (value.starts_with("--") && i + 1 < count)
      arguments.options[value] = values[++i];
    else if (arguments.verb.empty())
      arguments.verb = value;
    else
      arguments.files.push_back(value);
  }
  return arguments;
}

void print(std::uint64_t bytes, const Cost& cost, const std::string& more = "") {
  fmt::print("{{\"bytes\": {}, \"seconds\": {:.6f}, \"cpu_s\": {:.6f}, \"host_cpu_s\": {:.2f}{}}}\n", bytes,
             cost.seconds, cost.cpu_s, cost.host_cpu_s, more);
}

/// As many reads at once as there is to read: a copy of the file in memory, as the page cache holds one.
node::ReadSettings whole(std::uint64_t bytes) {
  constexpr std::uint64_t kLeastBytes = 4ULL << 20;
  const std::uint64_t each = (bytes / node::ReadSettings::kMaxDepth / 4096 + 1) * 4096;
  const std::uint64_t chunk_bytes = std::max(kLeastBytes, each);
  return {chunk_bytes, static_cast<std::uint32_t>((bytes + chunk_bytes - 1) / chunk_bytes)};
}

/// The time is that of reading, opening the files included, as fio counts it; CPU time that of all, also of the memory.
void read(const Arguments& arguments, const node::ReadSettings& defaults) {
  const node::ReadSettings settings{arguments.number("--chunk", defaults.chunk_bytes),
                                    static_cast<std::uint32_t>(arguments.number("--depth", defaults.depth))};
  std::vector<node::ReadRange> ranges;
  for (const std::string& file : arguments.files) ranges.push_back({file});
  std::uint64_t bytes = 0;
  double seconds = 0;
  Cost cost = cost_of([&] {
    const auto memory = node::ReadMemory::allocate(settings.memory_bytes());
    if (!memory.ok()) fail(memory.error().message);
    const auto reader = node::DirectReader::open(settings, memory->span(), !arguments.options.contains("--threads"));
    if (!reader.ok()) fail(reader.error().message);
    const auto report = (*reader)->read(ranges, [](const node::ReadChunk&) -> base::Status { return {}; });
    if (!report.ok()) fail(report.error().message);
    if (report->buffered_bytes > 0) fail("direct I/O is refused");
    bytes = report->bytes;
    seconds = base::to_s(report->duration);
  });
  cost.seconds = seconds;
  print(bytes, cost);
}

/// Then waits: memory that was freed a moment ago is in a state that free memory seldom is in. A hypervisor that takes
/// free memory back (page reporting) does so within seconds, and giving it again costs whoever touches it first.
void make_all_cold(const Arguments& arguments) {
  for (const std::string& file : arguments.files) make_cold(file);
  std::this_thread::sleep_for(std::chrono::milliseconds(arguments.number("--settle-ms", 0)));
}

void print_filled(const Arguments& arguments, const Cost& cost) {
  double touch_s = 0;
  std::uint64_t huge_bytes = 0;
  for (const std::string& file : arguments.files) {
    const std::uint64_t bytes = bytes_of(file);
    const std::uint64_t resident = resident_bytes_of(file);
    // Others on the machine may have pushed out a few pages again by now.
    if (resident < bytes / 100 * 99)
      fail(fmt::format("{} of {} bytes of {} are in the page cache", resident, bytes, file));
    if (arguments.options.contains("--no-touch")) continue;
    std::uint64_t huge = 0;
    touch_s += cost_of_touching(file, huge).seconds;
    huge_bytes += huge;
  }
  print(arguments.bytes(), cost, fmt::format(", \"touch_s\": {:.6f}, \"huge_bytes\": {}", touch_s, huge_bytes));
}

void fill(const Arguments& arguments) {
  make_all_cold(arguments);
  const auto workers = static_cast<unsigned>(arguments.number("--workers", node::PageFiller::default_workers()));
  const Cost cost = cost_of([&] {
    node::PageFiller filler(workers);
    const node::FillHandle handle = filler.fill(arguments.files);
    while (!handle.progress().done) std::this_thread::sleep_for(std::chrono::microseconds(500));
  });
  print_filled(arguments, cost);
}

void way(const Arguments& arguments) {
  const std::string& file = arguments.files.at(0);
  make_all_cold(arguments);
  const auto name = arguments.options.find("--way");
  if (name == arguments.options.end()) fail("which --way?");
  const Way chosen{name->second, static_cast<unsigned>(arguments.number("--workers", 2)),
                   arguments.number("--chunk", 2ULL << 20)};
  bool filled = false;
  const Cost cost = cost_of([&] { filled = fill_by(chosen, file, bytes_of(file)); });
  if (!filled) fail(chosen.name + ": " + std::strerror(errno));
  print_filled(arguments, cost);
}

void run(const Arguments& arguments) {
  if (arguments.files.empty()) fail(std::string("which FILE?\n") + kUsage);
  if (arguments.verb == "read") return read(arguments, {});
  if (arguments.verb == "limit") return read(arguments, whole(bytes_of(arguments.files.at(0))));
  if (arguments.verb == "fill") return fill(arguments);
  if (arguments.verb == "way") return way(arguments);
  if (arguments.verb != "cold" && arguments.verb != "cat")
    fail(std::string("unknown '") + arguments.verb + "'\n" + kUsage);
  make_all_cold(arguments);
  if (arguments.verb == "cold") return;
  std::vector<std::string> command{"cat"};
  command.insert(command.end(), arguments.files.begin(), arguments.files.end());
  print_filled(arguments, cost_of_command(command));
}

}  // namespace
}  // namespace thaw::bench

int main(int argc, char** argv) {
  const auto arguments = thaw::bench::parse(argc, argv);
  if (arguments.verb.empty() || arguments.verb == "help") {
    std::fputs(thaw::bench::kUsage, stdout);
    return 0;
  }
  thaw::bench::run(arguments);
}
