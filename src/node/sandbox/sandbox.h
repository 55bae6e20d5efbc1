#pragma once

#include <sys/types.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "node/cdi/grant.h"
#include "node/engine/engine.h"
#include "node/sandbox/bundle.h"
#include "node/sandbox/cgroup.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/process.h"
#include "node/secrets.h"

/// The problem: an engine is somebody's program with somebody's model, and when it is stopped nothing of it may be left. A Sandbox is one
/// place for one engine to run in: made empty, limited, shown its model, told what to run, killed, and taken away without a trace.
///
///     make() -> limit() -> expose() -> run() ... ended -> destroy()
namespace thaw::node {

/// What a sandbox shows its engine.
struct SandboxContents {
  std::vector<std::string> model_files;    ///< host paths, of files or directories
  std::string engine_dir;                  ///< host path; empty: none
  DeviceGrant devices = {};
  std::string cache_dir{};                 ///< host path, writable; empty: none
  std::vector<SecretValue> secrets = {};   ///< shown at kInsideSecrets
  std::vector<std::string> root_layers = {};  ///< of a container image (image_root.h), to be the root; empty: the host's own files
  std::string working_dir = "/";              ///< with them: the engine's, inside
};

/// A process (thaw-init), later its child (the engine), and all that was made for it. Owned by one holder; signal(), kill() and the readers may be called
/// from any thread while it lives.
class Sandbox {
 public:
  struct Parts {
    std::string name;
    std::string directory;                ///< all host files of the sandbox
    std::string socket_path;              ///< where the engine answers (base/endpoint.h)
    std::optional<Cgroup> cgroup;         ///< absent without a sandbox on a host that lets us make none
    pid_t pid = 0;
    Fd pidfd;
    Fd control;                           ///< thaw-init's descriptor 0; its end is the end of an empty sandbox
    Fd output;                            ///< read end of stdout and stderr, non-blocking
    std::string runtime_state;            ///< the OCI runtime's own directory for it; empty without runtime
    bool contents_fixed = false;          ///< shown from the start, expose() has nothing to do
    std::uint32_t engine_uid = 0;         ///< on the host; 0: the node's own
    bool own_network = false;             ///< in a network namespace of its own, with its first process
    bool let_go = false;                  ///< came up from an image: control is closed, and hold() is to be called
    std::function<base::Status(const SandboxContents&)> exposer =
        {};  ///< how contents are added later; absent: as mounts of thaw-init's
    /// What thaw-init is to start on the host so that the engine runs inside; absent: thaw-init is inside and starts
    /// the engine itself.
    std::function<base::Result<std::vector<std::string>>(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env)>
        launcher = {};
    std::function<base::Status()> clean_up = {};  ///< once no process is left, before its files go; may be called again after a failure
    std::function<void()> released;       ///< called once when nothing is left
  };
  explicit Sandbox(Parts parts) : parts_(std::move(parts)) {}
  /// destroy()s, and logs if that fails.
  ~Sandbox();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  /// The engine's process id on the host; thaw-init's as long as there is no engine.
  [[nodiscard]] pid_t engine_pid() const;
  [[nodiscard]] int pidfd() const { return parts_.pidfd.get(); }
  [[nodiscard]] const std::string& name() const { return parts_.name; }
  /// Where the engine answers, as base/endpoint.h writes it: its socket's path, or a TCP address.
  [[nodiscard]] const std::string& socket_path() const { return parts_.socket_path; }
  /// The engine will listen on TCP there, instead of on its socket: from now on socket_path() is that address, in the sandbox's own network namespace, for
  /// which a file is mounted in the sandbox's directory (without a sandbox: the host's). Nothing to do where it is TCP anyway. Call before anybody else
  /// asks for socket_path().
  [[nodiscard]] base::Status listen_on_tcp(const std::string& ipv4, std::uint16_t port);
  /// The engine's output; the caller's from now on.
  [[nodiscard]] Fd take_output() { return std::move(parts_.output); }
  [[nodiscard]] const std::optional<Cgroup>& cgroup() const { return parts_.cgroup; }
  [[nodiscard]] bool ended() const { return wait_ended(pidfd(), base::Duration::zero()); }

  /// The user that the engine runs as, on the host; 0 without a sandbox: the node's own.
  [[nodiscard]] std::uint32_t engine_uid() const { return parts_.engine_uid; }
  /// Keeps something alive until nothing of the sandbox is left.
  void keep(std::shared_ptr<const void> something) { kept_.push_back(std::move(something)); }
  [[nodiscard]] bool contents_fixed() const { return parts_.contents_fixed; }
  [[nodiscard]] bool own_network() const { return parts_.own_network; }
  /// Its first process, thaw-init.
  [[nodiscard]] pid_t init_pid() const { return parts_.pid; }
  /// From now on the sandbox is limited by this group, and removes it.
  void adopt(Cgroup cgroup) { parts_.cgroup = std::move(cgroup); }
  [[nodiscard]] base::Status limit(const CgroupLimits& limits);
  /// Mounts the model and the engine into a sandbox that was made empty.
  [[nodiscard]] base::Status expose(const SandboxContents& contents);
  /// thaw-init starts argv[0]. Returns when it has the message, not when the engine runs: a failing execve ends it with status 127.
  [[nodiscard]] base::Status run(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env);

  /// A program inside, which run() started, waits for a message of its own at the other end of `feed`: the next run()
  /// speaks to that one.
  void feed_through(Fd feed) { feed_ = std::move(feed); }

  /// For an image of the whole sandbox: thaw-init closes its control socket and is not tied to the node's life any more.
  /// Until hold() it ends by itself after a minute of running. Blocking, microseconds, at most `timeout`.
  [[nodiscard]] base::Status let_go(base::Duration timeout);
  /// The node holds the sandbox again, or for the first time one that came up from an image.
  void hold() const { send_signal(pidfd(), SIGUSR1); }

  /// How the engine ended, once the process has. `init`: how thaw-init did, the answer when it was killed before it could tell. Call once.
  [[nodiscard]] Exit ending(Exit init) const;

  /// SIGTERM or SIGINT, handed on to the engine.
  void signal(int number) const { send_signal(pidfd(), number); }
  /// SIGKILL to everything in it.
  void kill() const;

  [[nodiscard]] std::uint64_t memory_bytes() const;
  [[nodiscard]] std::uint64_t oom_kills() const { return parts_.cgroup ? parts_.cgroup->oom_kills() : 0; }

  /// Kills what runs and removes process, control groups, mounts and files. Bounded; may be called again after a failure, and does nothing after
  /// success. The error says what is still there.
  [[nodiscard]] base::Status destroy();

 private:
  Parts parts_;
  Fd feed_;
  mutable std::atomic<pid_t> engine_pid_{0};  ///< remembered: the driver may still list it when it has ended
  bool destroyed_ = false;
  std::vector<std::shared_ptr<const void>> kept_;
};

/// Makes sandboxes of one kind. Thread-safe.
class SandboxMaker {
 public:
  virtual ~SandboxMaker() = default;
  /// Where an engine in a sandbox for this instance finds things.
  [[nodiscard]] virtual LaunchPaths view(base::InstanceId instance) const = 0;
  /// Where an engine finds its cache (SandboxContents::cache_dir); empty: it cannot be shown.
  [[nodiscard]] virtual std::string cache_view(const std::string& /*cache_dir*/) const { return kInsideCache; }
  /// A sandbox that shows `contents` from the start.
  virtual base::Result<std::unique_ptr<Sandbox>> make(base::InstanceId instance, const SandboxContents& contents) = 0;
  /// A sandbox for an instance not known yet; fails with unavailable where contents cannot be added later.
  virtual base::Result<std::unique_ptr<Sandbox>> make_empty() = 0;
};

}  // namespace thaw::node
