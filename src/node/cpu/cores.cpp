#include "node/cpu/cores.h"

#include <sched.h>

#include <algorithm>
#include <set>

#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

constexpr unsigned kMostProcessors = 512;  // that llama.cpp's mask has room for

/// Where a machine has cores of two kinds, the kernel has a performance counter for each: "cpu_core" and "cpu_atom"
/// instead of "cpu".
bool has_cores_of_two_kinds(const std::string& cpus_dir) {
  return read_small_file(cpus_dir + "/../../cpu_atom/cpus").ok();
}

}  // namespace

std::vector<unsigned> processor_of_each_core(const std::string& cpus_dir) {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || has_cores_of_two_kinds(cpus_dir)) return {};
  std::vector<unsigned> processors;
  std::set<std::string> cores;
  for (unsigned cpu = 0; cpu < std::min<unsigned>(kMostProcessors, CPU_SETSIZE); ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    auto siblings = read_small_file(cpus_dir + "/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    if (!siblings.ok()) return {};
    if (cores.insert(*siblings).second) processors.push_back(cpu);
  }
  return processors;
}

std::string cpu_mask(const std::vector<unsigned>& processors) {
  constexpr unsigned kBitsOfADigit = 4;
  std::string digits(
      processors.empty() ? 1 : *std::max_element(processors.begin(), processors.end()) / kBitsOfADigit + 1, '0');
  for (const unsigned processor : processors) {
    char& digit = digits[digits.size() - 1 - processor / kBitsOfADigit];
    const auto value = static_cast<unsigned>(digit <= '9' ? digit - '0' : digit - 'a' + 10) | (1U << processor % kBitsOfADigit);
    digit = "0123456789abcdef"[value];
  }
  return digits;
}

}  // namespace thaw::node
