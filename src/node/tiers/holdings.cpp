#include "node/tiers/holdings.h"

#include <sys/stat.h>

#include <charconv>
#include <sstream>

#include <fmt/format.h>

#include "node/sandbox/files.h"
#include "node/weights/residency.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kKiB = 1024;

std::uint64_t size_of(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

std::uint64_t minus(std::uint64_t before, std::uint64_t after) {
  return before > after ? before - after : 0;
}

/// "Anonymous:  1234 kB" and "ShmemPmdMapped" are what smaps_rollup has of it; shared memory of an engine without a
/// group is not looked for.
std::uint64_t anonymous_bytes(pid_t pid) {
  const auto text = read_small_file(fmt::format("/proc/{}/smaps_rollup", pid));
  if (!text.ok()) return 0;
  const std::size_t at = text->find("\nAnonymous:");
  if (at == std::string::npos) return 0;
  std::uint64_t kib = 0;
  std::istringstream(text->substr(at + sizeof("\nAnonymous:") - 1)) >> kib;
  return kib * kKiB;
}

}  // namespace

std::uint64_t held_host_bytes(const Sandbox& sandbox) {
  return sandbox.cgroup() ? sandbox.cgroup()->held_bytes() : anonymous_bytes(sandbox.engine_pid());
}

std::uint64_t weights_in_memory(const std::vector<std::string>& files) {
  std::uint64_t bytes = 0;
  for (const std::string& path : files) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd) continue;
    const std::uint64_t size = size_of(fd.get());
    bytes += resident_bytes(fd.get(), 0, size).value_or(size);
  }
  return bytes;
}

std::uint64_t weights_on_disk(const std::vector<std::string>& files) {
  std::uint64_t bytes = 0;
  struct stat status {};
  for (const std::string& path : files)
    if (::stat(path.c_str(), &status) == 0) bytes += static_cast<std::uint64_t>(status.st_size);
  return bytes;
}

bool copies_weights(const TierSubject& subject) {
  constexpr std::uint64_t kSmall_bytes = 16ULL << 20;
  constexpr double kNearlyAll = 0.75;  // device bytes are an estimate on the safe side
  if (subject.model.resources.device != spec::DeviceKind::cpu || subject.sandbox == nullptr) return false;
  const std::uint64_t weights = weights_on_disk(subject.weight_files);
  if (weights < kSmall_bytes) return false;
  const std::uint64_t other = minus(subject.model.resources.device_memory_bytes.value_or(0), weights);
  return static_cast<double>(minus(held_host_bytes(*subject.sandbox), other)) >= kNearlyAll * static_cast<double>(weights);
}

Holdings measure(const TierSubject& subject) {
  Holdings holds;
  if (subject.sandbox != nullptr) holds.host_bytes = held_host_bytes(*subject.sandbox);
  holds.weights_bytes = weights_in_memory(subject.weight_files);
  return holds;
}

Holdings difference(const Holdings& before, const Holdings& after) {
  return {minus(before.device_bytes, after.device_bytes), minus(before.host_bytes, after.host_bytes),
          minus(before.weights_bytes, after.weights_bytes)};
}

}  // namespace thaw::node
