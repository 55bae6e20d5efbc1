#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/device/cuda_survey.h"
#include "wire/messages.h"

/// The problem: an instance is started from a declaration (a model, a device), an engine from a command line, and every
/// engine has its own. What is here turns one into the other and knows nothing of processes or sandboxes.
/// All functions are stateless and may be called from any thread.
namespace thaw::node {

struct OciConfig;

/// How one engine process is started, as the engine itself sees the world.
struct EngineLaunch {
  std::vector<std::string> argv;            ///< argv[0] is the engine as seen inside the sandbox
  std::map<std::string, std::string> env;   ///< the whole environment; nothing is inherited
  std::vector<std::string> model_files;     ///< host paths (also of directories), mounted read-only in LaunchPaths::model_dir under their own names
  std::string engine_dir;                   ///< host directory, mounted read-only at LaunchPaths::engine_dir; empty: the engine is the host's own,
                                            ///< in a place that every sandbox sees
  bool tcp = false;                         ///< listens on LaunchPaths::address and port, not on the socket
};

/// Paths as the engine will see them; without a sandbox they are host paths. model_dir empty: the model's own directory
/// on the host; engine_dir empty: the engine's own.
struct LaunchPaths {
  std::string socket;      ///< Unix socket to listen on; empty: TCP only
  std::string model_dir;
  std::string engine_dir;
  std::string lazy_map{};  ///< libthaw_lazy_map.so, to be preloaded; empty: there is none
  std::string address{};   ///< for engines that listen on TCP: the IPv4 address
  std::uint16_t port = 0;  ///< the same
  std::string cache_dir{};  ///< for what it compiles, writable, kept between starts; empty: there is none
  const OciConfig* image = nullptr;  ///< of the container image that is its root; null: the host's own files are
};

/// The command line for one instance. Looks at the model (its header, or what its directory holds), at where the engine lies, and for vLLM and SGLang
/// on a GPU at how much memory that has; touches nothing else.
/// Fails when the model cannot be read, or its arguments contradict thaw's own.
/// `engine_binary`: host path, from find_engine; not looked at with LaunchPaths::image. `libraries`: NVIDIA's.
base::Result<EngineLaunch> plan_launch(const wire::StartInstance& start, const std::string& engine_binary, const LaunchPaths& paths,
                                       const CudaLibraries& libraries = {});

/// Fails (invalid) with arguments or variables of a spec that contradict thaw's own, naming the key to use instead. Of engines other than llama.cpp, whose
/// arguments read_llama_args checks against the model.
base::Status check_arguments(const spec::ModelSpec& spec);

/// Host paths of the weights that the engine will read, in its order, as far as the spec's own words tell: the parts of a split model, then what its
/// arguments name; of a directory the *.safetensors in it. What it names need not be there.
std::vector<std::string> weight_files(const spec::ModelSpec& model);

/// What an engine is shown of its model: the file and its other parts; of a directory all that it holds but hidden files, each by itself (in the Hugging
/// Face cache they are links that lead out of it). Fails when there is nothing, or more than 1,000 entries.
base::Result<std::vector<std::string>> shown_files(const std::string& source);

/// Host path of the engine's program: the model's own (ModelSpec::engine_path; the first word of ModelSpec::command), else `configured` by the engine's name
/// as written in a spec, else where scripts/install-engine and packages put it, else PATH. The error names all places looked at and the remedy.
base::Result<std::string> find_engine(spec::EngineKind kind, const spec::ModelSpec& model,
                                      const std::map<std::string, std::string>& configured);

enum class Readiness {
  no,      ///< not yet: no socket, nobody listening, or the engine says that it is loading
  yes,     ///< it answers requests
  failed,  ///< it answers something that no loading engine says; waiting will not help
};

/// One bounded HTTP GET /health at the engine's address (base/endpoint.h has the forms). Blocks for at most `timeout`; silence until then
/// is Readiness::no. Fails only when the address itself is unusable (too long a path, a namespace that is gone).
base::Result<Readiness> probe_ready(const std::string& address, base::Duration timeout);

/// The same for this model's engine: a server of the user's own is asked at its own path, and anything but 200 means "not yet": nobody knows what it says
/// while it loads.
base::Result<Readiness> probe_model(const spec::ModelSpec& model, const std::string& address, base::Duration timeout);

}  // namespace thaw::node
