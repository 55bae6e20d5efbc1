#include "cli/deploy_spec.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

#include "base/units.h"
#include "cli/files.h"
#include "spec/image_ref.h"
#include "spec/parse.h"
#include "spec/source_ref.h"

namespace thaw::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;

constexpr std::size_t kMaxSpecBytes = 1 << 20;  // spec::parse_model's own bound
constexpr std::string_view kGgufMagic = "GGUF";

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return text;
}

base::Result<bool> starts_as_gguf(const std::string& path) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    const int number = errno;
    return Error{number == ENOENT ? ErrorKind::not_found : ErrorKind::io,
                 base::errno_error("cannot open " + path, number).message};
  }
  std::array<char, kGgufMagic.size()> magic{};
  const ssize_t count = read(file.get(), magic.data(), magic.size());
  if (count < 0) return Error{ErrorKind::invalid, base::errno_error("cannot read " + path, errno).message};
  return std::string_view(magic.data(), static_cast<std::size_t>(count)) == kGgufMagic;
}

base::Result<std::string> absolute_path(const fs::path& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) return Error{ErrorKind::io, "cannot find the current directory: " + error.message()};
  return absolute.lexically_normal().string();
}

/// An adapter as PEFT writes it.
base::Result<spec::ModelSpec> directory_spec(const std::string& path) {
  spec::ModelSpec spec;
  spec.name = base::ModelName(model_name_from_path(fs::path(path).lexically_normal().string()));
  THAW_ASSIGN_OR_RETURN(spec.source.path, absolute_path(path));
  return spec;
}

base::Result<spec::ModelSpec> read_spec(const std::string& path) {
  if (path == "-") {
    THAW_ASSIGN_OR_RETURN(const std::string text, read_to_end(STDIN_FILENO, "standard input", kMaxSpecBytes));
    THAW_ASSIGN_OR_RETURN(const std::string here, absolute_path("."));
    return spec::parse_model(text, "standard input", here);
  }
  THAW_ASSIGN_OR_RETURN(const bool gguf, starts_as_gguf(path));
  THAW_ASSIGN_OR_RETURN(const std::string absolute, absolute_path(path));
  if (!gguf) {
    if (lower(path).ends_with(".gguf"))
      return Error{ErrorKind::invalid,
                   path + " is no GGUF file: it does not start with \"GGUF\"; was it downloaded completely?"};
    THAW_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxSpecBytes));
    return spec::parse_model(text, path, fs::path(absolute).parent_path().string());
  }
  spec::ModelSpec spec;
  spec.name = base::ModelName(model_name_from_path(path));
  spec.source.path = absolute;
  return spec;
}

/// Replaces the engine's context size: the last -c wins in llama.cpp, but two of them would puzzle a reader.
void set_context(std::vector<std::string>& args, std::uint32_t tokens) {
  for (auto it = args.begin(); it != args.end();) {
    const bool takes_value = *it == "-c" || *it == "--ctx-size";
    it = takes_value ? args.erase(it, std::min(it + 2, args.end())) : it + 1;
  }
  args.insert(args.end(), {"-c", std::to_string(tokens)});
}

/// The spec of a model that is pulled. Its name: what was given, else from the file's or the repository's.
base::Result<spec::ModelSpec> remote_spec(const DeployFlags& flags) {
  if (flags.hf && flags.url) return Error{ErrorKind::invalid, "--hf and --url name two sources; give one"};
  if (flags.sha256 && !flags.url) return Error{ErrorKind::invalid, "--sha256 goes with --url"};
  spec::ModelSpec spec;
  std::string name;
  if (flags.hf) {
    const auto given = spec::source_from_text(*flags.hf);
    auto ref = spec::parse_hub_ref(given && !given->hf.empty() ? given->hf : *flags.hf);
    if (!ref.ok()) return ref.error().within("--hf");
    spec.source.hf = spec::to_string(*ref);
    name = ref->file.empty() ? ref->repo : ref->file;
  } else {
    auto url = spec::parse_url(*flags.url);
    if (!url.ok()) return url.error().within("--url");
    spec.source.url = *flags.url;
    spec.source.sha256 = lower(flags.sha256.value_or(""));
    name = url->file_name();
  }
  if (const auto split = spec::split_name(name)) name = split->stem;
  spec.name = base::ModelName(flags.path.empty() ? model_name_from_path(name) : flags.path);
  return spec;
}

/// An adapter has nothing of what these say.
base::Status refuse_for_adapters(const DeployFlags& flags) {
  const bool any = flags.engine || flags.image || flags.device || flags.devices || flags.priority || flags.device_memory ||
                   flags.min_replicas || flags.max_replicas || flags.concurrency || flags.idle_timeout || flags.standby || flags.context;
  if (!any) return {};
  return Error{ErrorKind::invalid, "an adapter runs in its base's replicas: with --base only --name, --hf, --url, --sha256 and --tenant count; "
                                   "give the others to its base"};
}

base::Status apply_flags(const DeployFlags& flags, spec::ModelSpec& spec) {
  if (flags.base) spec.base_model = *flags.base;
  if (spec.is_adapter()) THAW_RETURN_IF_ERROR(refuse_for_adapters(flags));
  if (flags.engine) {
    for (const spec::EngineKind kind : {spec::EngineKind::llama_cpp, spec::EngineKind::vllm, spec::EngineKind::sglang, spec::EngineKind::command})
      if (*flags.engine == to_string(kind)) spec.engine = kind;
  }
  if (flags.image) {
    std::error_code error;
    auto ref = spec::parse_image_ref(*flags.image, std::filesystem::current_path(error).string());
    if (!ref.ok()) return ref.error().within("--image");
    spec.image = spec::to_string(*ref);
    spec.image_digest = ref->digest;
  }
  if (flags.name) spec.name = base::ModelName(*flags.name);
  for (const std::string& alias : flags.aliases)
    if (std::find(spec.aliases.begin(), spec.aliases.end(), alias) == spec.aliases.end()) spec.aliases.push_back(alias);
  if (flags.device) spec.resources.device = *flags.device == "cuda" ? spec::DeviceKind::cuda : spec::DeviceKind::cpu;
  if (flags.devices) spec.resources.devices = *flags.devices;
  if (flags.priority) {
    for (const spec::Priority priority : {spec::Priority::low, spec::Priority::normal, spec::Priority::high})
      if (*flags.priority == to_string(priority)) spec.priority = priority;
  }
  if (flags.device_memory) {
    auto bytes = base::parse_bytes(*flags.device_memory);
    if (!bytes.ok()) return bytes.error().within("--device-memory");
    spec.resources.device_memory_bytes = *bytes;
  }
  if (flags.idle_timeout) {
    auto duration = base::parse_duration(*flags.idle_timeout);
    if (!duration.ok()) return duration.error().within("--idle-timeout");
    spec.scaling.idle_timeout = *duration;
  }
  if (flags.standby) {
    for (const spec::Mode mode : {spec::Mode::automatic, spec::Mode::never, spec::Mode::always})
      if (*flags.standby == to_string(mode)) spec.standby.mode = mode;
  }
  if (flags.max_replicas) spec.scaling.max_replicas = *flags.max_replicas;
  if (flags.min_replicas) {
    spec.scaling.min_replicas = *flags.min_replicas;
    if (!flags.max_replicas) spec.scaling.max_replicas = std::max(spec.scaling.max_replicas, *flags.min_replicas);
  }
  if (flags.concurrency) spec.scaling.target_concurrency = *flags.concurrency;
  if (flags.context) set_context(spec.args, *flags.context);
  return {};
}

}  // namespace

std::string model_name_from_path(const std::string& path) {
  std::string name = lower(fs::path(path).filename().string());
  if (name.ends_with(".gguf")) name.resize(name.size() - std::string_view(".gguf").size());
  for (char& c : name)
    if (!is_letter_or_digit(c) && c != '.' && c != '_' && c != '-') c = '-';
  name.erase(name.begin(), std::find_if(name.begin(), name.end(), is_letter_or_digit));
  name.resize(std::min(name.size(), kMaxModelNameLength));
  while (!name.empty() && !is_letter_or_digit(name.back())) name.pop_back();
  return name.empty() ? "model" : name;
}

base::Result<spec::ModelSpec> make_spec(const DeployFlags& flags) {
  const bool remote = flags.hf || flags.url;
  if (!remote && flags.sha256) return Error{ErrorKind::invalid, "--sha256 goes with --url"};
  if (!remote && flags.path.empty()) return Error{ErrorKind::invalid, "names nothing to deploy; give a spec, a GGUF file, --hf or --url"};
  std::error_code ignored;
  const bool directory = !remote && flags.base && fs::is_directory(flags.path, ignored);
  THAW_ASSIGN_OR_RETURN(spec::ModelSpec spec, remote ? remote_spec(flags) : directory ? directory_spec(flags.path) : read_spec(flags.path));
  THAW_RETURN_IF_ERROR(apply_flags(flags, spec));
  THAW_RETURN_IF_ERROR(spec::validate(spec));
  return spec;
}

}  // namespace thaw::cli
