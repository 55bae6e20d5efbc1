#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

/// What a piece of work costs, and files that are surely not in the page cache.
namespace thaw::bench {

struct Cost {
  double seconds = 0;
  double cpu_s = 0;       ///< user and system time of this process, or of the child that did the work
  double host_cpu_s = 0;  ///< of the whole machine, kernel threads and interrupts included; in ticks of 10 ms
};

/// Runs `work` once.
Cost cost_of(const std::function<void()>& work);

/// Runs a command to its end with its output thrown away. Ends this process with a message when it fails.
Cost cost_of_command(const std::vector<std::string>& command);

/// Takes a file out of the page cache, that file only; ends this process with a message when pages stay.
void make_cold(const std::string& path);

/// Pages of the file that are in the page cache, in bytes.
std::uint64_t resident_bytes_of(const std::string& path);

/// What it costs an engine to find the file in the page cache: maps it and touches each of its pages, as llama.cpp's
/// first prompt does. `huge_bytes`: of it in huge pages, in which processors find their way faster.
Cost cost_of_touching(const std::string& path, std::uint64_t& huge_bytes);

std::uint64_t bytes_of(const std::string& path);

[[noreturn]] void fail(const std::string& message);

}  // namespace thaw::bench
