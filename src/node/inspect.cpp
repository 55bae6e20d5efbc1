#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "node/agent.h"
#include "node/engine/llama_args.h"
#include "node/engine/llama_memory.h"
#include "node/weights/gguf.h"
#include "node/weights/integrity.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

/// A sandboxed engine runs as a user of its own, who can read only what everybody can. The directories above do not matter: the file itself
/// is mounted.
base::Status check_readable(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return base::errno_error("cannot read " + path, errno);
  if ((status.st_mode & S_IROTH) != 0) return {};
  return Error{ErrorKind::denied, fmt::format("cannot serve {}: the engine runs as an unprivileged user and may not read it; run chmod o+r {}",
                                              path, path)};
}

}  // namespace

base::Result<ModelFacts> inspect_model(const spec::ModelSpec& spec) {
  THAW_ASSIGN_OR_RETURN(const auto model, open_gguf_model(spec.source.path));
  std::vector<std::string> files = model.files();
  for (const std::string& file : files) THAW_RETURN_IF_ERROR(check_readable(file));
  const GgufHeader& header = model.head();
  const std::string architecture = header.text("general.architecture");
  if (architecture.empty() || header.tensors.empty()) {
    return Error{ErrorKind::invalid, fmt::format("cannot serve {}: it is a GGUF file without {}; name a whole model's file", spec.source.path,
                                                 architecture.empty() ? "an architecture" : "tensors")};
  }
  THAW_ASSIGN_OR_RETURN(const auto settings, read_llama_args(spec, header));
  for (const std::size_t position : settings.file_args) {
    const std::string& file = settings.user_args[position];
    THAW_RETURN_IF_ERROR(check_readable(file));
    if (std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
  }

  const LlamaMemory memory = estimate_llama_memory(model, settings, spec.resources.device);
  ModelFacts facts;
  facts.format = fmt::format("gguf v{}", header.version);
  facts.weights_bytes = model.file_bytes();
  facts.kv_bytes_per_token = memory.kv_bytes_per_token;
  facts.trained_context_tokens = header.number(architecture + ".context_length").value_or(0);
  facts.estimated_device_bytes = memory.total();
  facts.estimated_loading_bytes = memory.copied_bytes;
  for (const std::string& file : files) {
    auto stamp = stamp_file(file);
    if (stamp.ok()) facts.files.push_back(*std::move(stamp));
    else if (stamp.error().kind != ErrorKind::invalid) return stamp.error();  // what is no file has no bytes to watch
  }
  return facts;
}

}  // namespace thaw::node
