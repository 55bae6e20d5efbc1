#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "spec/parameters.h"
#include "spec/sandbox_kind.h"

namespace thaw::spec {

enum class DeviceKind { cpu, cuda };
enum class EngineKind { llama_cpp, vllm, sglang, command };

/// Whether something is done: as measured costs say, never, or whenever it can be.
enum class Mode { automatic, never, always };

/// Who goes first where not all can be served. One level counts as much as some seconds of waiting (docs/scheduling.md): nobody waits for ever.
enum class Priority { low, normal, high };
const char* to_string(Priority priority);  ///< as written in a spec: "low", "normal", "high"

const char* to_string(DeviceKind kind);  ///< as written in a spec: "cpu", "cuda"
const char* to_string(EngineKind kind);  ///< as written in a spec: "llama.cpp", "vllm", "sglang", "command"
const char* to_string(Mode mode);        ///< as written in a spec: "auto", "never", "always"

/// Where an engine that sleeps by itself keeps its weights.
enum class SleepingWeights {
  automatic,  ///< in host memory where there is room for them
  host,       ///< in host memory: back over the bus
  disk,       ///< nowhere else: read anew
};
const char* to_string(SleepingWeights weights);  ///< as written in a spec: "auto", "host", "disk"

/// Where the weights come from: a path, or one of the places they are pulled from (docs/sources.md).
struct Source {
  /// Absolute path on the node: a GGUF file; for other engines than llama.cpp also a directory, as Hugging Face has them. Of weights that are pulled: where
  /// the node keeps them, empty until they are there; said by the server alone ("pulledTo").
  std::string path;
  std::string hf{};      ///< "org/repo[/file|:quantisation][@revision]" (spec/source_ref.h)
  std::string url{};     ///< https: a GGUF file, or the first of its parts
  std::string sha256{};  ///< of what is at url; 64 hex digits, lower case; empty: not known

  [[nodiscard]] bool remote() const { return !hf.empty() || !url.empty(); }
};

/// Devices that one replica can be spread over: no machine has more.
constexpr std::uint32_t kMaxDevicesOfReplica = 64;

struct Resources {
  DeviceKind device = DeviceKind::cpu;
  /// Device memory one replica holds while it is up, on all its devices together. On a CPU device this is host memory. Absent: estimated from the
  /// weights and the context when the model is deployed (llama.cpp only); the stored spec always has it.
  std::optional<std::uint64_t> device_memory_bytes;
  /// Held beside device_memory_bytes until a start has ended: of a model file whose weights the engine copies. Absent: as device_memory_bytes.
  std::optional<std::uint64_t> loading_memory_bytes;
  std::optional<double> cpus;                       ///< CPU limit of a replica, 0.01 to 4,096; absent: no limit
  std::optional<std::uint64_t> host_memory_bytes;   ///< host memory limit of a replica; absent: derived by the node
  /// Devices that one replica takes, all of one node and of this kind, all or none: 1 to kMaxDevicesOfReplica. More than 1: not on a CPU, of which a
  /// node has one. Each holds an equal share of device_memory_bytes and of loading_memory_bytes.
  std::uint32_t devices = 1;
  std::optional<std::uint32_t> pids;                ///< processes and threads of a replica, 16 to 32,768; absent: by the engine (node/limits.h)
};

struct Queue {
  std::uint32_t max_length = 512;                ///< requests waiting for this model, 0 to 100,000
  base::Duration timeout = base::Seconds(120);   ///< longest wait before a request is refused, 1 ms to 1 h
};

struct Scaling {
  std::uint32_t min_replicas = 0;                    ///< 0 to max_replicas
  std::uint32_t max_replicas = 1;                    ///< 1 to 1,000
  std::uint32_t target_concurrency = 4;              ///< requests one replica serves at once, 1 to 1,024
  base::Duration idle_timeout = base::Seconds(300);  ///< counted from the end of the last request; 0 s to 365 d
  Queue queue;
};

/// The weights in the page cache of a node: between replicas they are kept there as long as there is room.
struct WeightsCache {
  bool pin = false;  ///< never evicted to make room for another model's. The kernel may still take them when memory is short
};

/// What becomes of a replica that was idle for scaling.idleTimeout: frozen, so that it gives up what memory it can and is woken faster than
/// another is started, or stopped.
struct Standby {
  Mode mode = Mode::automatic;
  base::Duration timeout = base::Seconds(600);  ///< in standby for so long: stopped; 0 s to 365 d
  SleepingWeights weights = SleepingWeights::automatic;
};

/// Images of initialised replicas, from which others are restored.
struct Snapshot {
  Mode mode = Mode::automatic;
};

/// Something that the engine must know and nobody else may see. The spec has its name only, so that what is stored, listed and logged holds none.
struct Secret {
  std::string name;      ///< the engine's file /run/secrets/NAME; 1 to 64 of [A-Za-z0-9._-], not beginning with "."
  std::string file;      ///< a file in the node's node.secretsDir, by its path from there; or
  std::string from_env;  ///< the variable THAW_SECRET_<this> of the server
};

/// What of a network an engine has: none, but what is listed.
struct Network {
  std::vector<std::string> egress;  ///< where it may connect to through the node's proxy, as spec/egress_rule.h writes it; 64 at most
};

/// A model that is an adapter (LoRA) of another one, as that one's replicas are started with it.
struct Adapter {
  std::string name;         ///< the adapter's own, without its tenant, which is its base's
  std::string path;         ///< absolute, on the node: a GGUF file, or a directory as PEFT writes them
  std::uint64_t bytes = 0;  ///< of its files
};

/// The same names and files in the same order.
bool same_adapters(const std::vector<Adapter>& a, const std::vector<Adapter>& b);

/// Adapters of one model: each is in memory in every replica of llama.cpp's, and has its name in the others'.
constexpr std::size_t kMaxAdapters = 64;

/// What a user declares about one model: the whole of it, so that it can be stored and sent as it is.
struct ModelSpec {
  base::ModelName name;  ///< metadata.name (1 to 63 of [a-z0-9._-], a letter or digit at both ends) with metadata.tenant in it: base/tenancy.h
  /// Under which it is asked, too, by its tenant: names as its own, 16 at most; no other model of the tenant has any of them.
  std::vector<std::string> aliases;
  Source source;
  /// Name of the model of the same tenant whose adapter (LoRA) this is; its source has the adapter's weights then. It has no replicas: its requests are
  /// answered by its base's. Of the rest only aliases, parameters, request_timeout and stall_timeout are its own. Empty: a model as any other.
  std::string base_model{};
  /// That this model is the base of, in the order of their names. The server's to say: what a deploy says is not looked at.
  std::vector<Adapter> adapters{};
  EngineKind engine = EngineKind::llama_cpp;
  std::string engine_path;                     ///< absolute path of the user's own engine binary; empty: the node's. Not with EngineKind::command
  /// Container image whose files are the engine's root, as spec/image_ref.h writes it; empty: the host's own /usr. Then engine_path and
  /// the program of `command` are paths inside, and without them the image's own entrypoint is taken.
  std::string image;
  /// Of its manifest, "sha256:…": what its tag meant when the model was deployed. The stored spec always has it.
  std::string image_digest;
  /// EngineKind::command, and only it: the program and its arguments, with placeholders (spec/command_template.h).
  std::vector<std::string> command;
  std::string ready_path = "/health";          ///< EngineKind::command: answers 200 to a GET once the engine is ready
  std::vector<std::string> args;               ///< passed to the engine as they are, after thaw's own; 256 and 128 KiB at most
  std::map<std::string, std::string> env;      ///< added to the engine's (otherwise scrubbed) environment; the same bounds
  std::vector<Secret> secrets;                 ///< 32 at most
  Network network;
  std::optional<SandboxKind> sandbox;          ///< runc or runsc; absent: the node's own kind (node.sandbox)
  Parameters parameters;                       ///< of requests that have text generated
  Resources resources;
  Priority priority = Priority::normal;        ///< of its requests that say nothing else, and of its replicas
  Scaling scaling;
  WeightsCache cache;
  Standby standby;
  Snapshot snapshot;
  base::Duration start_deadline = base::Seconds(120);    ///< from start to ready, 100 ms to 1 h
  base::Duration request_timeout = base::Seconds(600);   ///< from dispatch to the end of the answer, 1 s to 24 h
  base::Duration stall_timeout = base::Seconds(120);     ///< longest silence inside a streamed answer, 100 ms to 1 h

  [[nodiscard]] bool is_adapter() const { return !base_model.empty(); }
};

/// Its place among the base's adapters; nothing if its replicas are not started with it (as it is now).
std::optional<std::size_t> place_of_adapter(const ModelSpec& base, std::string_view name, std::string_view path);

}  // namespace thaw::spec
