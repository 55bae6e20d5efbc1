#include "node/engine/launch_parts.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <fmt/format.h>

#include "node/device/devices.h"
#include "node/engine/image_program.h"
#include "node/weights/source_files.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;

std::string file_name(const std::string& path) {
  return fs::path(path).filename().string();
}

/// "--max_num_seqs=4" -> "--max-num-seqs"
std::string flag_of(const std::string& arg) {
  std::string flag = arg.substr(0, arg.find('='));
  if (flag.starts_with("--")) std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

/// Where each keeps what it compiled. Most obey XDG_CACHE_HOME; the others have a variable of their own:
/// https://docs.vllm.ai/en/latest/configuration/env_vars (VLLM_CACHE_ROOT), https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_configuration_tutorial
/// (TORCHINDUCTOR_CACHE_DIR), https://triton-lang.org (TRITON_CACHE_DIR), https://docs.nvidia.com/cuda/cuda-c-programming-guide (CUDA_CACHE_PATH),
/// https://docs.flashinfer.ai (FLASHINFER_WORKSPACE_BASE).
void set_cache_environment(EngineLaunch& launch, const std::string& directory) {
  if (directory.empty()) return;
  launch.env["XDG_CACHE_HOME"] = directory;
  launch.env["VLLM_CACHE_ROOT"] = directory + "/vllm";
  launch.env["TORCHINDUCTOR_CACHE_DIR"] = directory + "/inductor";
  launch.env["TRITON_CACHE_DIR"] = directory + "/triton";
  launch.env["CUDA_CACHE_PATH"] = directory + "/cuda";
  launch.env["FLASHINFER_WORKSPACE_BASE"] = directory;
}

}  // namespace

std::string seen_in(const std::string& directory, const std::string& host_path) {
  return directory.empty() ? host_path : directory + "/" + file_name(host_path);
}

base::Status add_model_file(EngineLaunch& launch, const std::string& path) {
  for (const std::string& other : launch.model_files) {
    if (other == path) return {};
    if (file_name(other) == file_name(path)) {
      return Error{ErrorKind::invalid,
                   fmt::format("cannot start the engine: {} and {} have the same name, and a sandbox shows both in "
                               "one directory; rename one",
                               other, path)};
    }
  }
  launch.model_files.push_back(path);
  return {};
}

base::Result<std::vector<std::string>> shown_files(const std::string& source) {
  std::error_code error;
  if (!fs::is_directory(source, error)) {
    std::vector<std::string> files = source_files(source);
    if (!files.empty()) return files;
    return Error{
        ErrorKind::not_found,
        fmt::format("cannot read {}: there is no such file or directory; engines have no network, so a model must "
                    "be on this machine (hf download ORG/NAME --local-dir DIR)",
                    source)};
  }
  std::vector<std::string> files;
  for (fs::directory_iterator entry(source, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = file_name(entry->path());
    if (name.starts_with(".")) continue;  // .cache, .gitattributes
    std::error_code ignored;
    if (!entry->is_regular_file(ignored) && !entry->is_directory(ignored)) continue;
    if (files.size() == kMaxSourceFiles)
      return Error{
          ErrorKind::invalid,
          fmt::format("cannot show {} to an engine: it holds more than {} files; give the model a directory of its own",
                      source, kMaxSourceFiles)};
    files.push_back(entry->path());
  }
  if (error) return base::errno_error("cannot list " + source, error.value());
  if (files.empty()) return Error{ErrorKind::invalid, fmt::format("cannot serve {}: the directory is empty", source)};
  std::sort(files.begin(), files.end());
  return files;
}

base::Result<std::string> show_model(EngineLaunch& launch, const spec::ModelSpec& model, const LaunchPaths& paths) {
  const std::string& source = model.source.path;
  THAW_ASSIGN_OR_RETURN(const std::vector<std::string> files, shown_files(source));
  for (const std::string& file : files) THAW_RETURN_IF_ERROR(add_model_file(launch, file));
  std::error_code error;
  if (!fs::is_directory(source, error)) return seen_in(paths.model_dir, source);
  return paths.model_dir.empty() ? source : paths.model_dir;
}

void show_device(EngineLaunch& launch, const wire::StartInstance& start) {
  if (start.model.resources.device == spec::DeviceKind::cpu) {
    launch.env["CUDA_VISIBLE_DEVICES"] =
        "";  // an engine built for CUDA would take seconds, and a context's memory, to find out
    return;
  }
  launch.env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID";  // the order in which devices are numbered here (NVML's)
  std::string visible;
  for (const base::DeviceId& id : start.all_devices()) {
    const std::string& device = id.str();
    visible += (visible.empty() ? "" : ",") + device.substr(std::min(device.size(), std::string("cuda").size()));
  }
  launch.env["CUDA_VISIBLE_DEVICES"] = visible;
}

void set_environment(EngineLaunch& launch, const spec::ModelSpec& model, const LaunchPaths& paths, const std::string& program_dir) {
  set_cache_environment(launch, paths.cache_dir);
  launch.env["PATH"] = (program_dir.empty() ? "" : program_dir + ":") + "/usr/bin:/bin";
  launch.env["LANG"] = "C.UTF-8";
  if (paths.image != nullptr) set_image_environment(launch, *paths.image);
  launch.env["HOME"] = "/tmp";
  for (const auto& [name, value] : model.env) launch.env[name] = value;
}

void set_python_environment(EngineLaunch& launch, const spec::ModelSpec& model) {
  launch.env["PYTHONUNBUFFERED"] = "1";  // its last words are in the log when it dies
  launch.env["PYTHONDONTWRITEBYTECODE"] = "1";
  // https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
  launch.env["HF_HUB_OFFLINE"] = "1";
  launch.env["HF_HUB_DISABLE_TELEMETRY"] = "1";
  launch.env["DO_NOT_TRACK"] = "1";
  if (model.resources.cpus)
    launch.env["OMP_NUM_THREADS"] =
        std::to_string(std::max(1, static_cast<int>(std::min(*model.resources.cpus, 1024.0))));
}

bool gives_flag(const std::vector<std::string>& args, std::string_view flag) {
  return std::any_of(args.begin(), args.end(), [&](const std::string& arg) { return flag_of(arg) == flag; });
}

namespace {

base::Status refuse(const spec::ModelSpec& spec, const std::vector<Refusal>& refusals) {
  const auto contradiction = [&](const char* what, std::string_view name, const char* remedy) {
    return Error{ErrorKind::invalid, fmt::format("cannot deploy model {}: {} {} is thaw's to decide; {}",
                                                 spec.name.str(), what, name, remedy)};
  };
  for (const Refusal& refusal : refusals) {
    for (const std::string_view flag : refusal.flags)
      if (gives_flag(spec.args, flag)) return contradiction("argument", flag, refusal.remedy);
    for (const std::string_view variable : refusal.variables)
      if (spec.env.contains(std::string(variable))) return contradiction("variable", variable, refusal.remedy);
  }
  return {};
}

}  // namespace

base::Status check_user_args(const spec::ModelSpec& spec, const std::vector<Refusal>& refusals, const std::vector<std::string_view>& file_flags) {
  THAW_RETURN_IF_ERROR(refuse(spec, refusals));
  EngineLaunch ignored;
  return add_user_args(ignored, spec, {}, file_flags);
}

base::Status add_user_args(EngineLaunch& launch, const spec::ModelSpec& spec, const LaunchPaths& paths,
                           const std::vector<std::string_view>& file_flags) {
  for (std::size_t i = 0; i < spec.args.size(); ++i) {
    const std::string& arg = spec.args[i];
    launch.argv.push_back(arg);
    const bool names_file = std::find(file_flags.begin(), file_flags.end(), flag_of(arg)) != file_flags.end();
    if (!names_file) continue;
    const std::size_t equals = arg.find('=');
    if (equals == std::string::npos && i + 1 == spec.args.size())
      return Error{ErrorKind::invalid,
                   fmt::format("cannot deploy model {}: argument {} lacks its value", spec.name.str(), arg)};
    const std::string path = equals == std::string::npos ? spec.args[++i] : arg.substr(equals + 1);
    if (!path.starts_with("/"))
      return Error{ErrorKind::invalid, fmt::format("cannot deploy model {}: {} {}: give an absolute path",
                                                   spec.name.str(), flag_of(arg), path)};
    THAW_RETURN_IF_ERROR(add_model_file(launch, path));
    if (equals == std::string::npos)
      launch.argv.push_back(seen_in(paths.model_dir, path));
    else
      launch.argv.back() = arg.substr(0, equals + 1) + seen_in(paths.model_dir, path);
  }
  return {};
}

base::Result<GpuMemory> gpu_memory_of(const wire::StartInstance& start, const CudaLibraries& libraries) {
  GpuMemory least{UINT64_MAX, UINT64_MAX};
  auto nvml = Nvml::open(libraries.nvml);
  for (const base::DeviceId& device : start.all_devices()) {
    const auto index = cuda_index(device);
    if (!index || !nvml.ok())
      return Error{
          ErrorKind::unavailable,
          fmt::format(
              "cannot start {} on {}: it is given a share of the device's memory, and how much that has cannot be "
              "seen; install NVIDIA's libnvidia-ml.so.1",
              spec::to_string(start.model.engine), device.str())};
    THAW_ASSIGN_OR_RETURN(const std::vector<GpuInfo> gpus, nvml->devices());
    if (*index >= gpus.size())
      return Error{ErrorKind::not_found, fmt::format("cannot start {}: there is no device {}",
                                                     spec::to_string(start.model.engine), device.str())};
    THAW_ASSIGN_OR_RETURN(const std::uint64_t free_bytes, nvml->free_bytes(*index));
    least.total_bytes = std::min(least.total_bytes, gpus[*index].total_bytes);
    least.free_bytes = std::min(least.free_bytes, free_bytes);
  }
  return least;
}

std::uint64_t share_bytes(const spec::ModelSpec& spec) { return spec.resources.device_memory_bytes.value_or(0) / spec.resources.devices; }

std::string fraction(std::uint64_t part_bytes, std::uint64_t whole_bytes) {
  constexpr double kSteps = 10'000;
  const double share = whole_bytes == 0 ? 1 : static_cast<double>(part_bytes) / static_cast<double>(whole_bytes);
  return fmt::format("{:.4f}", std::clamp(std::floor(share * kSteps), 1.0, kSteps - 1) / kSteps);
}

}  // namespace thaw::node
