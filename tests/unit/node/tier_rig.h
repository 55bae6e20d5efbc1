#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "node/sandbox/plain.h"
#include "node/tiers/driver.h"
#include "unit/node/agent_harness.h"
#include "unit/node/weights_files.h"

/// What the conformance suite of tier drivers (tier_driver_suite.h) stands on: one driver, one engine that answers, and
/// ways to look at both that do not go through the driver.
namespace thaw::node::test {

/// Something that goes wrong in one direction.
struct TierFault {
  enum class In { down, up };
  std::string name;
  In in = In::down;
  std::function<void()> arm;                    ///< before the call
  std::vector<Rests> allowed;                   ///< where the instance may rest after it
  base::Duration deadline = base::Seconds(20);  ///< of the call; faults that hang have a short one
  bool fails = true;                            ///< the call reports an error; false: the driver gets by
};

class TierRig {
 public:
  virtual ~TierRig() = default;
  /// Why this rig cannot be used here; empty when it can.
  [[nodiscard]] virtual std::string cannot() const { return {}; }
  /// An engine that answers. Records a test failure otherwise.
  virtual void start() = 0;
  virtual TierDriver& driver() = 0;
  virtual TierSubject subject() = 0;
  /// What the engine says to a prompt that is always the same; empty: nothing.
  virtual std::string answer() = 0;
  /// Whether the kernel, or the device's driver, says that it rests.
  virtual bool rests() = 0;
  /// What it holds, read by other code than the driver's.
  virtual Holdings holds() = 0;
  virtual void kill_engine() = 0;
  /// Whether a process of it is left.
  virtual bool alive() = 0;
  /// Sandbox::destroy(), as after discard().
  virtual base::Status destroy() = 0;
  /// Takes the sandbox that up() has made from an image in place of the one before.
  virtual void adopt(std::unique_ptr<Sandbox> sandbox) = 0;

  [[nodiscard]] virtual std::vector<TierFault> faults() { return {}; }
  /// What was armed happens no more.
  virtual void heal() {}
};

using TierRigMaker = std::function<std::unique_ptr<TierRig>()>;

/// An engine as an ordinary process in control groups of its own (PlainMaker), without sandbox.
class EngineRig : public TierRig {
 public:
  /// `argv`: the engine and its flags; --host and -m are added; empty: cannot(). `model`: copied into a file of its
  /// own, which nobody else maps; empty: 8 MiB that are no model.
  EngineRig(std::vector<std::string> argv, const std::string& model);
  ~EngineRig() override;

  [[nodiscard]] std::string cannot() const override;
  void start() override;
  TierSubject subject() override;
  std::string answer() override;
  Holdings holds() override;
  void kill_engine() override;
  bool alive() override;
  base::Status destroy() override;
  void adopt(std::unique_ptr<Sandbox> sandbox) override { sandbox_ = std::move(sandbox); }

  [[nodiscard]] const SandboxHome& home() const { return home_; }
  [[nodiscard]] Sandbox& sandbox() { return *sandbox_; }
  [[nodiscard]] const std::string& model_path() const { return model_path_; }
  /// Before start(): control groups as another host has them.
  void set_cgroups(std::shared_ptr<const CgroupHost> cgroups) { home_.cgroups = std::move(cgroups); }
  void set_env(const std::string& name, const std::string& value) { env_[name] = value; }
  void set_device(spec::DeviceKind kind, const std::string& id);

 private:
  DiskDirectory directory_;  // on a disk: what lies in a tmpfs cannot leave memory
  std::vector<std::string> argv_;
  std::map<std::string, std::string> env_{{"PATH", "/usr/bin:/bin"}, {"LANG", "C.UTF-8"}};
  std::string model_path_;
  SandboxHome home_;
  std::unique_ptr<PlainMaker> maker_;
  std::unique_ptr<Sandbox> sandbox_;
  TierSubject subject_;
};

/// The fake engine, which maps the weights it is given.
std::vector<std::string> fake_engine(std::vector<std::string> flags = {});

/// llama-server and a real model; empty where they are not there.
std::vector<std::string> real_engine();
std::string real_model();

/// One HTTP exchange over a Unix socket: the answer's bytes, empty when there was none within `patience`.
std::string http_post(const std::string& socket_path, const std::string& path, const std::string& body,
                      base::Duration patience = base::Seconds(30));

/// "…\r\n\r\nBODY" -> BODY
std::string body_of(const std::string& answer);

/// A file's pages that are in memory, by a mapping and mincore: not the way the drivers count.
std::uint64_t bytes_in_memory(const std::string& path);

/// Whether no process is left in a sandbox's control group.
bool group_is_empty(const SandboxHome& home, const std::string& name);

/// The kernel's numbers of a control group, read without the code under test: anonymous, shared and kernel memory.
std::uint64_t group_held_bytes(const std::string& label, const std::string& name);

}  // namespace thaw::node::test
