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
#include "wire/file_stamp.h"
#include "wire/weights.h"

/// What controller and node say to each other: plain values that can be written as JSON, so that a cluster changes the
/// transport only. A node never decides and a controller never touches a process.
namespace thaw::wire {

struct DeviceInfo {
  base::DeviceId id;
  spec::DeviceKind kind = spec::DeviceKind::cpu;
  std::string name;  ///< "AMD EPYC", "NVIDIA A100-SXM4-80GB"
  std::string uuid;  ///< of a CUDA device; else empty
  std::uint64_t total_bytes = 0;
  std::uint64_t budget_bytes = 0;  ///< what instances may hold together, <= total_bytes
};

/// What takes an instance down to a cheaper state and up again.
enum class DriverKind {
  freezer,  ///< control group freezer, pages given back: standby
  runsc,    ///< gVisor's checkpoint and restore: images
  cuda,     ///< the CUDA driver's checkpoint calls: standby
  engine,   ///< the engine's own sleep and wake: standby
  criu,     ///< CRIU's dump and restore of runc sandboxes: images
};
const char* to_string(DriverKind kind);

/// What one driver can do on this host for instances of one kind of device.
struct DriverInfo {
  DriverKind driver = DriverKind::freezer;
  spec::DeviceKind device = spec::DeviceKind::cpu;
  bool standby = false;   ///< freezes and wakes instances
  bool snapshot = false;  ///< takes images and restores instances from them
  std::string why_not;    ///< for people, with the remedy, when it can do neither; else empty
  /// Images: only of models that ask for its kind of sandbox (spec.sandbox), because the node's own kind is another. Else of all that ask for no other.
  bool opt_in = false;
  bool gangs = false;     ///< also for instances that take several devices, as far as its part above goes
};

/// A snapshot on a node's disk: a replica of the model, initialised, that has served nothing but the warm-up prompt.
struct ImageInfo {
  base::ImageId image;
  base::ModelName model;
  DriverKind driver = DriverKind::runsc;
  std::uint64_t bytes = 0;         ///< on disk
  std::uint64_t device_bytes = 0;  ///< a replica restored from it holds; at most its model's
  std::uint64_t created_unix_s = 0;
};

/// node -> controller, once, when the node is up and every left-over of an earlier life is gone.
struct NodeHello {
  base::NodeName node;
  std::vector<DeviceInfo> devices;
  std::vector<DriverInfo> drivers{};     ///< at most one entry for a driver and a kind of device; absent: not there
  std::uint64_t host_budget_bytes = 0;   ///< host memory that instances may hold together beside their devices' memory
  std::uint64_t image_budget_bytes = 0;  ///< disk that images may hold together
  std::vector<ImageInfo> images{};       ///< complete and usable as far as can be seen without reading them
  HostCacheInfo host_cache{};
  std::string domain{};                  ///< what fails together with the node, at most kMaxDomain bytes; empty: the node is its own
};
constexpr std::size_t kMaxDomain = 63;

/// How an instance came up, cheapest first.
enum class Way {
  wake,     ///< out of standby
  restore,  ///< from an image
  start,    ///< from nothing
};
const char* to_string(Way way);

/// Weights that a phase was about.
struct PhaseBytes {
  std::uint64_t read = 0;      ///< in that time, from the disk
  std::uint64_t resident = 0;  ///< in memory already
};

/// A named part of a transition. Phases may overlap; `start` counts from the moment the node took the command.
struct Phase {
  std::string name;  ///< "sandbox", "mount", "exec", "load"; "restore"; "thaw", "weights"
  base::Duration start{};
  base::Duration duration{};
  std::optional<PhaseBytes> bytes{};  ///< of "weights"

  [[nodiscard]] double bytes_per_s() const {
    return bytes && duration > base::Duration::zero() ? static_cast<double>(bytes->read) / base::to_s(duration) : 0;
  }
};

// --- controller -> node

/// Brings a new instance up. Answered by InstanceReady or InstanceDown.
struct StartInstance {
  base::InstanceId instance;
  spec::ModelSpec model;  ///< device_memory_bytes always set
  base::DeviceId device;
  base::Duration deadline{};  ///< from receipt to ready
  /// Restore from this image. A restore that fails goes on as a start within the deadline (InstanceReady::fell_back
  /// says why), and an image that is found unusable is dropped (ImageGone). Empty: a start.
  base::ImageId image{};
  base::TenantName tenant{"default"};  ///< whose model it is
  /// All devices of a replica that takes several, `device` first; empty: `device` alone.
  std::vector<base::DeviceId> devices{};

  [[nodiscard]] std::vector<base::DeviceId> all_devices() const { return devices.empty() ? std::vector{device} : devices; }
};

/// Stops at once what is in any state: starting, ready, freezing, in standby, waking, or the replica of a snapshot that
/// is being taken. Answered by InstanceGone, also when the instance is unknown (it is gone then).
struct StopInstance {
  base::InstanceId instance;
  base::Duration grace{};  ///< from SIGTERM to SIGKILL
};

/// Takes a ready instance to standby. The controller has seen to it that it serves nothing and sends it nothing.
/// Answered by InstanceStandby, FreezeFailed or InstanceDown.
struct FreezeInstance {
  base::InstanceId instance;
  base::Duration deadline{};  ///< from receipt to standby; then the node undoes it, or ends the instance if it cannot
};

/// Takes an instance in standby up again. Answered by InstanceReady (way wake) or InstanceDown.
struct WakeInstance {
  base::InstanceId instance;
  base::Duration deadline{};  ///< from receipt to ready; then the node ends the instance
};

/// Starts a replica that serves nobody but the warm-up prompt, makes an image of it and ends it. In the background:
/// requests' own transitions go first. Answered by SnapshotTaken or SnapshotFailed, and in either case by InstanceGone
/// when nothing of the replica is left. StopInstance cancels it (SnapshotFailed, InstanceGone).
struct TakeSnapshot {
  base::ImageId image;        ///< of the image to be
  base::InstanceId instance;  ///< of the replica; its device bytes are reserved until InstanceGone
  spec::ModelSpec model;      ///< device_memory_bytes always set
  base::DeviceId device;
  base::Duration deadline{};    ///< from receipt to the image on disk
  std::uint64_t max_bytes = 0;  ///< disk reserved for it; an image that would be larger is given up
  std::vector<base::DeviceId> devices{};  ///< as in StartInstance
};

/// Answered by ImageGone, also when the image is unknown. Instances that were restored from it stay.
struct DropImage {
  base::ImageId image;
};

/// The model was removed: what the node keeps for it beyond its replicas (compile caches) goes, what they still use
/// when they end. Not answered.
struct ForgetModel {
  base::TenantName tenant;
  base::ModelName model;
};

/// Has the instance's engine load an adapter that it was started with the possibility of (ModelSpec::adapters): of engines that are told over HTTP.
/// Answered by AdapterLoaded. One that it has already is loaded anew.
struct LoadAdapter {
  base::InstanceId instance;
  base::ModelName adapter;    ///< with its tenant; its name without is what the engine knows it by
  base::Duration deadline{};  ///< from receipt to loaded
};

/// Has it forget the adapter, if it is up. Not answered.
struct UnloadAdapter {
  base::InstanceId instance;
  base::ModelName adapter;
};

/// Computes the SHA-256 of a file, in the background. Answered by FileHashed.
struct HashFile {
  std::uint64_t id = 0;  ///< of the question, not 0
  std::string path;
  bool urgent = false;  ///< somebody waits: at once, and not only while no instance starts
};

using NodeCommand = std::variant<StartInstance, StopInstance, FreezeInstance, WakeInstance, TakeSnapshot, DropImage, HashFile,
                                 LookAtWeights, EvictWeights, ForgetModel, LoadAdapter, UnloadAdapter>;

// --- node -> controller

struct InstanceReady {
  base::InstanceId instance;
  std::string socket_path;  ///< where the engine answers HTTP (base/endpoint.h); may change with every way up
  std::vector<Phase> phases;
  Way way = Way::start;               ///< that was gone in the end
  std::string fell_back{};            ///< for people: why the way asked for was not gone; empty: it was
  std::uint64_t held_host_bytes = 0;  ///< of the host budget, beside its device's bytes
  bool can_freeze = false;            ///< a driver for standby works with this instance
  bool copied_weights = false;        ///< its engine computes with copies of its own: what is in memory of the files may leave
};

/// The instance's weights are in the host's memory, as far as the node reads them ahead of the engine. At most once a start, before InstanceReady or
/// after it; not when the start ends before, and not for what cannot be read.
struct InstanceWeights {
  base::InstanceId instance;
  Phase phase;                     ///< its bytes are set
};

enum class DownReason {
  stopped,        ///< as asked
  start_failed,   ///< sandbox or engine could not be started, or the engine ended before it was ready
  start_timeout,  ///< not ready by the deadline
  crashed,        ///< ended by itself after it was ready
  out_of_memory,  ///< killed by its memory limit
  freeze_failed,  ///< it could not be frozen and did not survive the attempt
  wake_failed,    ///< it did not come up from standby, or not by the deadline
};
const char* to_string(DownReason reason);

/// The instance serves no more, as of now. Its device bytes are still held; InstanceGone follows.
/// Not sent for an instance that ends because of StopInstance.
struct InstanceDown {
  base::InstanceId instance;
  DownReason reason = DownReason::crashed;
  std::string detail;    ///< one line for people: "exit status 1", "signal 11 (Segmentation fault)"
  std::string log_tail;  ///< the engine's last lines, at most 2 KiB
};

/// Nothing of the instance is left: no process, cgroup, mount, namespace, and its device memory was seen to return.
struct InstanceGone {
  base::InstanceId instance;
};

/// The instance is frozen. From now on it holds what is said here.
struct InstanceStandby {
  base::InstanceId instance;
  DriverKind driver = DriverKind::freezer;
  std::uint64_t held_host_bytes = 0;    ///< of the host budget; 0 on a CPU device, whose memory is the host's
  std::uint64_t held_device_bytes = 0;  ///< of its device: on a CPU device what the frozen process cannot give up
  std::vector<Phase> phases;
};

struct FreezeFailed {
  base::InstanceId instance;
  std::string reason;        ///< for people
  bool still_ready = false;  ///< it can serve as before; false: InstanceDown follows
};

struct SnapshotTaken {
  base::InstanceId instance;  ///< the replica it was made of
  ImageInfo image;
  std::vector<Phase> phases;
};

struct SnapshotFailed {
  base::InstanceId instance;
  base::ImageId image;  ///< there is none
  base::ModelName model;
  std::string reason;  ///< for people
};

/// An image is no more and its bytes are free: dropped as asked, or found unusable.
struct ImageGone {
  base::ImageId image;
  std::uint64_t freed_bytes = 0;
  std::string reason;  ///< for people: "dropped", "digest of pages.img differs"
};

/// The model's files as they are just before an instance's engine opens them.
struct FilesSeen {
  base::InstanceId instance;
  std::vector<FileStamp> files;
};

/// A file that the instance was started from is another one than then. What it has mapped may show both by now, unless
/// the file is gone: that one it keeps as it was.
struct FilesChanged {
  base::InstanceId instance;
  FileStamp file;      ///< as it is now; only its path when it is gone
  std::string detail;  ///< for people: "its size went from 10 to 20 bytes"
  bool gone = false;
};

struct AdapterLoaded {
  base::InstanceId instance;
  base::ModelName adapter;
  std::string error;   ///< for people: why the engine does not have it; empty: it has
};

struct FileHashed {
  std::uint64_t id = 0;
  FileStamp file;      ///< from its first byte to its last; only its path when it could not be read
  std::string sha256;  ///< 64 hex digits, lower case; empty when it could not be read
  std::string error;   ///< for people: why it could not be read; else empty
};

using NodeEvent = std::variant<InstanceReady, InstanceWeights, InstanceDown, InstanceGone, InstanceStandby, FreezeFailed, SnapshotTaken,
                               SnapshotFailed, ImageGone, FilesSeen, FilesChanged, FileHashed, WeightsState,
                               WeightsEvicted, AdapterLoaded>;

std::string to_json(const NodeHello& hello);
std::string to_json(const NodeCommand& command);
std::string to_json(const NodeEvent& event);
base::Result<NodeHello> parse_hello(std::string_view json);
base::Result<NodeCommand> parse_command(std::string_view json);
base::Result<NodeEvent> parse_event(std::string_view json);

}  // namespace thaw::wire
