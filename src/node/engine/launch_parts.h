#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "node/engine/engine.h"

/// What the adapters of several engines do alike.
namespace thaw::node {

/// Where the engine sees a host file that is mounted in `directory`; the host's own path when that is empty.
std::string seen_in(const std::string& directory, const std::string& host_path);

/// Adds a file to those to be mounted; two files of one name cannot lie in one directory.
base::Status add_model_file(EngineLaunch& launch, const std::string& path);

/// Adds all that the engine is shown of the model (shown_files). Where the engine sees it: a file, or a directory.
base::Result<std::string> show_model(EngineLaunch& launch, const spec::ModelSpec& model, const LaunchPaths& paths);

/// The variables by which CUDA knows the instance's device, and no other.
void show_device(EngineLaunch& launch, const wire::StartInstance& start);

/// What every engine is given, then the user's own. `program_dir`: first in PATH; empty: none.
void set_environment(EngineLaunch& launch, const spec::ModelSpec& model, const LaunchPaths& paths, const std::string& program_dir = {});

/// For engines in Python: nothing is asked of or told to the Internet, which there is none of; as many threads as the
/// replica may use CPUs. Before set_environment, by which the user may say otherwise.
void set_python_environment(EngineLaunch& launch, const spec::ModelSpec& model);

/// Whether the arguments hold the flag, also as --flag=value, and with "_" for "-", as Python's engines take them.
bool gives_flag(const std::vector<std::string>& args, std::string_view flag);

/// Flags and variables that are thaw's to decide, and what to use instead.
struct Refusal {
  std::vector<std::string_view> flags;
  std::vector<std::string_view> variables;
  const char* remedy;
};

/// What the deploy of any of these engines asks: nothing refused, and every file named by an absolute path.
base::Status check_user_args(const spec::ModelSpec& spec, const std::vector<Refusal>& refusals, const std::vector<std::string_view>& file_flags);

/// The user's arguments, with host paths after one of `file_flags` mounted and replaced. Fails when such a path is not
/// absolute.
base::Status add_user_args(EngineLaunch& launch, const spec::ModelSpec& spec, const LaunchPaths& paths,
                           const std::vector<std::string_view>& file_flags);

/// Memory of the instance's GPU, from NVML.
struct GpuMemory {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;
};
/// Of the one of its devices that has least: every one is given the same share.
base::Result<GpuMemory> gpu_memory_of(const wire::StartInstance& start, const CudaLibraries& libraries);

/// What a replica may hold on each of its devices.
std::uint64_t share_bytes(const spec::ModelSpec& spec);

/// `part` of `whole` as a command line has it: four digits, rounded down, 0.0001 to 0.9999.
std::string fraction(std::uint64_t part_bytes, std::uint64_t whole_bytes);

}  // namespace thaw::node
