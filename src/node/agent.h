#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/weights/page_fill.h"
#include "spec/server_config.h"
#include "wire/messages.h"

namespace thaw::node {

class ContainerImages;
class Egress;

struct AgentConfig {
  base::NodeName node;
  std::string data_dir;                        ///< logs in <data_dir>/logs; sandboxes are in /run/thaw/<label of data_dir> (agent.cpp says why)
  std::string init_path;                       ///< the static thaw-init binary
  spec::ServerConfig::Node settings;
  std::optional<std::uint64_t> cpu_memory_bytes;
  std::uint64_t cuda_reserve_bytes = 0;
  std::map<std::string, std::string> engine_paths;
};

/// Owns one machine's devices and instances: carries StartInstance and StopInstance out and reports what became of them.
/// Threads: its own (a bounded pool for starts and stops, one that watches processes and moves logs, a few that read weights). submit() may be called from any
/// thread and never blocks; the sink is called from the agent's threads and must not block.
/// Lifecycle: open() once; the destructor stops every instance (SIGTERM, grace, SIGKILL) and leaves nothing behind. After a kill -9 the next
/// open() finds what was left by its labels (names of control groups, runc state in /run/thaw) and removes it.
class Agent {
 public:
  using EventSink = std::function<void(wire::NodeEvent)>;

  Agent(AgentConfig config, EventSink sink);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  /// Checks privileges and runtimes, cleans up, finds devices, fills the sandbox pool in the background.
  /// Fails with the remedy (which capabilities are missing, which package to install).
  base::Result<wire::NodeHello> open();

  /// At most 10,000 commands may wait; beyond that a start is answered with InstanceDown(start_failed) + InstanceGone, and a HashFile
  /// with an error.
  void submit(wire::NodeCommand command);

  /// Kernel's numbers of one running instance, for `thaw ps`.
  struct Usage {
    std::uint64_t memory_bytes = 0;  ///< charged to its control group, page cache that it brought in included
    std::uint64_t held_bytes = 0;    ///< of it, what only its end frees: anonymous, shared and kernel memory
    std::int64_t pid = 0;
  };
  [[nodiscard]] base::Result<Usage> usage(base::InstanceId instance) const;

  /// Weights read ahead of engines since open().
  [[nodiscard]] FillTotals weights_read() const;
  /// For `thaw ls`: how much of these weights is in memory, looked at now, blocking, for at most `at_most`; nothing for those that there was
  /// no time for: a later call begins with them.
  [[nodiscard]] std::vector<std::optional<wire::WeightsState>> look_at_weights(const std::vector<std::string>& sources,
                                                                               base::Duration at_most);
  /// What engines say to GET /metrics: of those that are ready and answer 200 within a quarter of a second, at most 1 MiB
  /// each, as long as there is time: blocking, for at most `at_most`.
  struct EngineMetrics {
    base::InstanceId instance;
    std::string text;
  };
  [[nodiscard]] std::vector<EngineMetrics> engine_metrics(const std::vector<base::InstanceId>& instances,
                                                          base::Duration at_most) const;
  /// The node's container images, or why it has none. Call after open(); any thread.
  [[nodiscard]] base::Result<ContainerImages*> container_images() const;
  /// The digest that an image has now. Fails with denied for one in files that are not for engines. Blocking, up to a minute.
  [[nodiscard]] base::Result<std::string> resolve_image(const std::string& image) const;
  /// The proxies of models with spec.network.egress.
  [[nodiscard]] Egress& egress() const;
  /// For `thaw evict`: takes them out of memory, blocking. conflict while an instance uses them.
  [[nodiscard]] base::Result<wire::WeightsEvicted> evict_weights(const std::string& source);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What the node finds out about a model's files before it is deployed; reads only headers. Blocking.
struct ModelFacts {
  std::string format;                         ///< "gguf v3", "safetensors"; "of its own" where only the engine knows it
  std::uint64_t weights_bytes = 0;            ///< files on disk
  std::uint64_t kv_bytes_per_token = 0;       ///< keys and values at F16, all layers
  std::uint64_t trained_context_tokens = 0;
  std::uint64_t estimated_loading_bytes = 0;  ///< beside them until a start has ended: of weights that the engine copies
  std::uint64_t estimated_device_bytes = 0;   ///< weights + KV at the spec's context × slots + compute buffers (node/engine/llama_memory.cpp); for other
                                              ///< engines than llama.cpp what the spec says
  std::vector<wire::FileStamp> files;         ///< all that a replica reads: weights, and what the spec's arguments name
};

/// Fails with the remedy when the source cannot be read by a sandboxed engine, is nothing that the engine loads, or the engine's arguments contradict
/// thaw's own; for engines other than llama.cpp also when the spec does not say how much device memory they may take.
base::Result<ModelFacts> inspect_model(const spec::ModelSpec& spec);

/// Of an adapter (LoRA): that its files are one, for the engine that its spec names. inspect_model() does this for specs of adapters.
base::Result<ModelFacts> inspect_adapter(const spec::ModelSpec& spec);
/// Whether the base's engine can serve the adapter: llama.cpp's by architecture, names and shapes of the tensors; and whether the base's own arguments
/// leave it to thaw. Fails (invalid) with what does not fit and the remedy. Blocking; reads headers.
base::Status adapter_fits(const spec::ModelSpec& base, const spec::Adapter& adapter);
std::uint64_t bytes_of_adapters(const spec::ModelSpec& base);

/// Where a model's engine log lies: <data_dir>/logs/<model>.log, rotated to .log.1 ….
std::string log_path(const std::string& data_dir, const base::ModelName& model);

/// One line of `thaw doctor`.
struct Finding {
  enum class Level { ok, note, warning, failure };
  std::string topic;     ///< "runc", "cgroups", "cuda", "io_uring", "privileges", "engine llama.cpp"
  Level level = Level::ok;
  std::string text;      ///< what was found
  std::string remedy;    ///< empty when nothing is to be done
};
/// `model_files`: of deployed models, whose disks are looked at as well.
std::vector<Finding> examine_host(const AgentConfig& config, const std::vector<std::string>& model_files = {});
/// What on this host makes the walls around engines thinner than they could be (docs/security.md).
std::vector<Finding> examine_security(const AgentConfig& config);

}  // namespace thaw::node
