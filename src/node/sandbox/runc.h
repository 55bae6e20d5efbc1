#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "node/sandbox/criu_info.h"
#include "node/sandbox/home.h"
#include "node/sandbox/sandbox.h"

namespace thaw::node {

/// Sandboxes as runc containers. Each has a range of uids of its own, so that two engines are strangers to each other as well as to the host.
class RuncMaker : public SandboxMaker {
 public:
  /// Of what is in a sandbox and where. Another one makes images useless.
  static constexpr int kLayout = 1;

  /// Makes the shared root and the runtime's directory. Fails, with the remedy, when runc is missing. `runc`, `criu`: to be
  /// used instead of the host's.
  static base::Result<std::unique_ptr<RuncMaker>> open(SandboxHome home, const std::string& runc = {}, const std::string& criu = {});

  [[nodiscard]] LaunchPaths view(base::InstanceId instance) const override;
  base::Result<std::unique_ptr<Sandbox>> make(base::InstanceId instance, const SandboxContents& contents) override;
  base::Result<std::unique_ptr<Sandbox>> make_empty() override;

  // --- images, by criu (runc_images.cpp)

  /// Why there can be none here: the error has the remedy. Found out by open().
  [[nodiscard]] const base::Result<CriuInfo>& criu() const { return criu_; }

  /// All of the host that an image depends on beside engine, model and CPU: criu, the kernel, what of ours is mapped inside.
  [[nodiscard]] std::string image_runtime() const;

  /// True for a sandbox that an image can be made of: of make() of this kind of maker. One that was made ahead got its
  /// contents behind runc's back, and criu would not know where these mounts come from.
  [[nodiscard]] static bool can_checkpoint(const Sandbox& sandbox) { return sandbox.own_network() && sandbox.contents_fixed(); }

  /// Writes the state of everything in the sandbox to files in `directory` (which exists and is empty) and ends it.
  /// Blocking, up to `timeout`. The engine must have no connection open. After an error the sandbox runs on, or has
  /// ended.
  base::Status checkpoint(Sandbox& sandbox, const std::string& directory, base::Duration timeout);

  /// A new sandbox with the same contents as that of checkpoint() had, in which its processes go on. Blocking, up to
  /// `timeout`. `directory` is only read, by any number of restores at once. Fails with conflict when what came up is less
  /// confined than an engine must be; whatever the error, nothing is left.
  base::Result<std::unique_ptr<Sandbox>> restore(const SandboxContents& contents, const std::string& directory, base::Duration timeout);

 private:
  RuncMaker(SandboxHome home, std::string runc, base::Result<CriuInfo> criu)
      : home_(std::move(home)), runc_(std::move(runc)), criu_(std::move(criu)) {}
  struct Place;
  [[nodiscard]] base::Result<Place> take_place();
  [[nodiscard]] base::Result<std::unique_ptr<Sandbox>> given_up(const Place& place, const base::Error& why);
  [[nodiscard]] base::Result<Bundle> bundle_of(const Place& place, const SandboxContents& contents, DeviceGrant devices) const;
  [[nodiscard]] std::vector<std::string> command(std::initializer_list<std::string> more) const;
  [[nodiscard]] std::vector<std::string> environment() const;
  /// Returns what the bundle shows of devices: with a container image's root, where that has their places.
  [[nodiscard]] base::Result<DeviceGrant> prepare(const Place& place, const SandboxContents& contents) const;
  base::Result<std::unique_ptr<Sandbox>> launch(const Place& place, std::vector<std::string> argv, Fd control, int stdin_fd, bool fixed,
                                                base::Duration timeout) const;
  base::Result<std::unique_ptr<Sandbox>> make_any(const SandboxContents& contents, bool fixed);
  base::Result<std::unique_ptr<Sandbox>> restore_at(const Place& place, const SandboxContents& contents, const std::string& directory,
                                                    base::Duration timeout);

  SandboxHome home_;
  std::string runc_;
  base::Result<CriuInfo> criu_;
  std::mutex mutex_;
  std::uint64_t made_ = 0;
};

/// One sandbox's name and files.
struct RuncMaker::Place {
  std::string name;
  std::string directory;
  std::uint32_t uid_slot = 0;
  std::uint32_t uid_base = 0;
  Cgroup cgroup;
};

/// runc logs `time="…" level=error msg="…"`; people want the message.
std::string runc_reason(std::string text);

/// Full path of runc, or an error with the remedy.
base::Result<std::string> find_runc();

}  // namespace thaw::node
