#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "spec/model_spec.h"

/// What controller and node say to each other: plain values that can be written as JSON, so that a cluster changes the transport only.
/// A node never decides and a controller never touches a process.
namespace thaw::wire {

struct DeviceInfo {
  base::DeviceId id;
  spec::DeviceKind kind = spec::DeviceKind::cpu;
  std::string name;                 ///< "AMD EPYC", "NVIDIA A100-SXM4-80GB"
  std::string uuid;                 ///< of a CUDA device; else empty
  std::uint64_t total_bytes = 0;
  std::uint64_t budget_bytes = 0;   ///< what instances may hold together, <= total_bytes
};

/// node -> controller, once, when the node is up and every left-over of an earlier life is gone.
struct NodeHello {
  base::NodeName node;
  std::vector<DeviceInfo> devices;
};

/// A named part of a cold start. Phases may overlap; `start` counts from the moment the node took the command.
struct Phase {
  std::string name;  ///< "sandbox", "mount", "exec", "load", "ready"
  base::Duration start{};
  base::Duration duration{};
};

// --- controller -> node

struct StartInstance {
  base::InstanceId instance;
  spec::ModelSpec model;         ///< device_memory_bytes always set
  base::DeviceId device;
  base::Duration deadline{};     ///< from receipt to ready
};

/// Stops at once what is starting or ready. Answered by InstanceGone, also when the instance is unknown (it is gone then).
struct StopInstance {
  base::InstanceId instance;
  base::Duration grace{};        ///< from SIGTERM to SIGKILL
};

using NodeCommand = std::variant<StartInstance, StopInstance>;

// --- node -> controller

struct InstanceReady {
  base::InstanceId instance;
  std::string socket_path;         ///< Unix socket the engine answers HTTP on
  std::vector<Phase> phases;
};

enum class DownReason {
  stopped,         ///< as asked
  start_failed,    ///< sandbox or engine could not be started, or the engine ended before it was ready
  start_timeout,   ///< not ready by the deadline
  crashed,         ///< ended by itself after it was ready
  out_of_memory,   ///< killed by its memory limit
};
const char* to_string(DownReason reason);

/// The instance serves no more, as of now. Its device bytes are still held; InstanceGone follows.
/// Not sent for an instance that ends because of StopInstance.
struct InstanceDown {
  base::InstanceId instance;
  DownReason reason = DownReason::crashed;
  std::string detail;     ///< one line for people: "exit status 1", "signal 11 (Segmentation fault)"
  std::string log_tail;   ///< the engine's last lines, at most 2 KiB
};

/// Nothing of the instance is left: no process, cgroup, mount, namespace, and its device memory was seen to return.
struct InstanceGone {
  base::InstanceId instance;
};

using NodeEvent = std::variant<InstanceReady, InstanceDown, InstanceGone>;

std::string to_json(const NodeHello& hello);
std::string to_json(const NodeCommand& command);
std::string to_json(const NodeEvent& event);
base::Result<NodeHello> parse_hello(std::string_view json);
base::Result<NodeCommand> parse_command(std::string_view json);
base::Result<NodeEvent> parse_event(std::string_view json);

}  // namespace thaw::wire
