#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "spec/model_spec.h"

namespace thaw::cli {

/// `thaw deploy`'s flags. What is given overrides what the file says.
struct DeployFlags {
  std::string path;  ///< FILE.yaml, PATH.gguf, "-" for YAML on standard input; with hf or url the model's name, or empty
  std::optional<std::string> hf;      ///< "org/repo[/file|:quantisation][@revision]"
  std::optional<std::string> url;
  std::optional<std::string> sha256;  ///< of what is at url
  std::optional<std::string> base;    ///< of what is an adapter, the model's name
  std::optional<std::string> engine;  ///< as a spec names it
  std::optional<std::string> image;   ///< container image, as spec/image_ref.h has it; a relative path counts from the current directory
  std::optional<std::string> name;
  std::vector<std::string> aliases;          ///< beside those of the spec
  std::optional<std::string> device;         ///< "cpu" or "cuda"
  std::optional<std::uint32_t> devices;
  std::optional<std::string> priority;       ///< "low", "normal" or "high"
  std::optional<std::string> device_memory;  ///< as base::parse_bytes reads it
  std::optional<std::uint32_t> min_replicas;
  std::optional<std::uint32_t> max_replicas;
  std::optional<std::uint32_t> concurrency;
  std::optional<std::string> idle_timeout;  ///< as base::parse_duration reads it
  std::optional<std::string> standby;       ///< auto, never or always
  std::optional<std::uint32_t> context;     ///< of one request; becomes the -c that the node reads
};

inline constexpr std::size_t kMaxModelNameLength = 63;

/// A valid model name from a file's name: "/models/Llama 3.2_Q4.GGUF" -> "llama-3.2_q4". Lower-cased, what is not
/// allowed becomes
/// '-', no '.', '_' or '-' at either end, cut to 63 characters; "model" when nothing is left.
std::string model_name_from_path(const std::string& path);

/// The spec that `thaw deploy` sends: read from the file and changed by the flags, or made from the flags for a GGUF
/// file (told by its first bytes), then checked as a whole. Relative paths in a YAML file count from its folder, those
/// of flags and of standard input from the current one. Errors are those of spec::parse_model and spec::validate, or
/// name the flag.
base::Result<spec::ModelSpec> make_spec(const DeployFlags& flags);

}  // namespace thaw::cli
