#include "weights/measure.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "node/sandbox/fd.h"
#include "node/weights/residency.h"

extern char** environ;

namespace thaw::bench {
namespace {

double cpu_seconds(int who) {
  rusage used{};
  ::getrusage(who, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// All but idle and iowait of /proc/stat.
double host_cpu_seconds() {
  std::ifstream file("/proc/stat");
  std::string name;
  file >> name;
  double total = 0;
  for (int field = 0; field < 8; ++field) {
    double ticks = 0;
    file >> ticks;
    if (field != 3 && field != 4) total += ticks;
  }
  return total / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Cost cost(const std::function<void()>& work, int who) {
  const double cpu = cpu_seconds(who);
  const double host_cpu = host_cpu_seconds();
  const auto begin = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return {took.count(), cpu_seconds(who) - cpu, host_cpu_seconds() - host_cpu};
}

/// Of the mapping that begins there.
std::uint64_t huge_mapped_bytes(const void* mapping) {
  std::ifstream file("/proc/self/smaps");
  std::ostringstream begin;
  begin << std::hex << reinterpret_cast<std::uintptr_t>(mapping) << '-';
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.find('-') < line.find(' ')) inside = line.starts_with(begin.str());
    if (inside && line.starts_with("FilePmdMapped:")) return std::strtoull(line.c_str() + 14, nullptr, 10) * 1024;
  }
  return 0;
}

}  // namespace

void fail(const std::string& message) {
  std::fprintf(stderr, "bench-weights: %s\n", message.c_str());
  std::exit(1);
}

Cost cost_of(const std::function<void()>& work) {
  return cost(work, RUSAGE_SELF);
}

Cost cost_of_command(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  int status = -1;
  const Cost spent = cost(
      [&] {
        pid_t child = -1;
        const int error = ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
        if (error != 0) fail(command[0] + ": " + std::strerror(error));
        ::waitpid(child, &status, 0);
      },
      RUSAGE_CHILDREN);
  ::posix_spawn_file_actions_destroy(&actions);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail(command[0] + " failed");
  return spent;
}

std::uint64_t bytes_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) fail(path + ": " + std::strerror(errno));
  return static_cast<std::uint64_t>(status.st_size);
}

std::uint64_t resident_bytes_of(const std::string& path) {
  const node::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const auto resident = node::resident_bytes(fd.get(), 0, bytes_of(path), node::ResidencyCall::mincore);
  if (!resident) fail("the kernel does not say what of " + path + " is in the page cache; run as root");
  return *resident;
}

Cost cost_of_touching(const std::string& path, std::uint64_t& huge_bytes) {
  const std::uint64_t bytes = bytes_of(path);
  const node::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return cost_of([&] {
    void* const mapping = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (mapping == MAP_FAILED) fail("cannot map " + path);
    const auto* const begin = static_cast<const volatile char*>(mapping);
    for (std::uint64_t at = 0; at < bytes; at += 4096) (void)begin[at];
    huge_bytes = huge_mapped_bytes(mapping);
    ::munmap(mapping, bytes);
  });
}

void make_cold(const std::string& path) {
  constexpr int kAttempts = 1000;
  const node::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ::fsync(fd.get());
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    if (resident_bytes_of(path) == 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // somebody holds pages for a moment
  }
  fail(path + " stays in the page cache; who has it mapped?");
}

}  // namespace thaw::bench
