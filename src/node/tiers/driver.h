#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "node/engine/sleep_api.h"
#include "node/sandbox/sandbox.h"
#include "wire/messages.h"

/// The problem: an idle model must give its memory back, and come back faster than a start. There are several ways (a
/// frozen process, a sandbox's image, a driver's checkpoint, the engine's own sleep), each with its own runtime, limits
/// and ways to fail, and none may leave an instance somewhere between answering and resting. A TierDriver is one way;
/// whoever uses it sees three states and no more:
///
///        down()                       ok: standby          failed: ready (as before), or lost
///     ready ────► standby
///           ◄────
///        up()                         ok: ready            failed: standby (as before), or lost
///
/// `lost` means: to be killed and removed, by discard() and Sandbox::destroy(). tests/unit/node/tier_driver_suite.h is
/// what every driver must pass.
namespace thaw::node {

/// Memory as the kernel and the device's driver account for it, never as somebody hopes.
struct Holdings {
  std::uint64_t device_bytes = 0;  ///< of a GPU, by NVML; always 0 where the device is the CPU
  std::uint64_t host_bytes = 0;    ///< charged to the control group and not reclaimable: anonymous, shared and kernel
                                   ///< memory. Only its end frees it
  std::uint64_t weights_bytes =
      0;  ///< of its weight files in the page cache; shared with whoever else maps or reads them
};

/// Whether a driver can be used on this host, found out once, when it is made.
struct Capability {
  bool works = false;
  std::string detail;  ///< what it uses ("cgroup v1 freezer"), or why it does not work
  std::string remedy;  ///< what to do about it; empty when nothing is to be done
};

/// What a driver leaves of an instance that went down.
enum class Keeps {
  process,  ///< the same process, resting: up() wakes that one, once
  image,    ///< a directory on disk: up() makes any number of instances from it, on other days too
};

/// What is to go down or up.
struct TierSubject {
  base::InstanceId instance;
  spec::ModelSpec model;
  base::DeviceId device;                  ///< the first of its devices
  std::vector<base::DeviceId> devices{};  ///< all of them; empty: `device` alone
  std::vector<std::string> weight_files;  ///< host paths, in the order in which the engine loads them
  SleepApi sleep_api = SleepApi::none;    ///< the engine's own calls for sleeping
  Sandbox* sandbox = nullptr;             ///< its process, control group and socket; null for up() from an image
  std::string image;  ///< Keeps::image: the directory. down() finds it absent and leaves it whole or absent

  [[nodiscard]] std::vector<base::DeviceId> all_devices() const { return devices.empty() ? std::vector{device} : devices; }
};

/// How long a call may take, and who may end it earlier. Drivers look at both at least every kTierPoll, and in every
/// wait.
struct TierCall {
  base::TimePoint deadline;
  std::stop_token stop;  ///< stop requested: the instance is to end, or has; the call is pointless. Its result must be
                         ///< truthful all the same

  /// timeout or unavailable once the call should end.
  [[nodiscard]] base::Status go_on() const;
  /// Time left, not below zero.
  [[nodiscard]] base::Duration left() const;
  /// Sleeps up to `duration` and no longer than the deadline, waking at once when stop is requested; then as go_on().
  [[nodiscard]] base::Status pause(base::Duration duration) const;
};
inline constexpr auto kTierPoll = base::Millis(50);

/// Where an instance rests after a call.
enum class Rests {
  ready,    ///< answers its health check; nothing of a transition is left
  standby,  ///< resting, and up() may be called
  lost,     ///< neither: discard(), then Sandbox::destroy()
};
const char* to_string(Rests rests);

struct TierOutcome {
  Rests rests = Rests::lost;
  std::optional<base::Error>
      error;  ///< absent: as asked. timeout: the deadline passed; unavailable: stop was requested, or the process ended
  Holdings held;   ///< now, measured; all 0 when lost. Without weights_bytes after up(): those are still coming in
  Holdings freed;  ///< what this call gave back (down)
  std::uint64_t image_bytes = 0;     ///< on disk (Keeps::image)
  std::vector<wire::Phase> phases;   ///< named parts of what was done, from the call's begin
  std::unique_ptr<Sandbox> sandbox;  ///< the new instance's, of up() from an image; else null

  [[nodiscard]] bool ok() const { return !error.has_value(); }
};

/// A guess made before anything was measured here; what was measured counts more (src/control).
struct TierEstimate {
  base::Duration down{};
  base::Duration up{};
  Holdings held;  ///< while resting
  std::uint64_t image_bytes = 0;
};

/// One way down and up.
/// Threads: any; calls for one instance (or one image) never overlap, calls for different ones do. All but name(),
/// capability() and keeps() block. Lifecycle: made once per node, outlives every instance that it took down.
class TierDriver {
 public:
  virtual ~TierDriver() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;  ///< "freezer", "runsc", "criu", "cuda", "engine"
  [[nodiscard]] virtual const Capability& capability() const = 0;
  [[nodiscard]] virtual Keeps keeps() const = 0;

  /// Whether it can take this instance (kind of device, of engine, of sandbox). Fails with `unavailable` and the
  /// reason. Implies capability().works.
  [[nodiscard]] virtual base::Status accepts(const TierSubject& subject) const = 0;
  [[nodiscard]] virtual TierEstimate estimate(const TierSubject& subject) const = 0;

  /// Takes a ready instance without requests down. Keeps::image: `rests` is ready when it runs on beside its image,
  /// standby when the image is all there is of it.
  [[nodiscard]] virtual TierOutcome down(const TierSubject& subject, const TierCall& call) = 0;

  /// Brings it back until it answers its health check.
  [[nodiscard]] virtual TierOutcome up(const TierSubject& subject, const TierCall& call) = 0;

  /// Forgets an instance in whatever state, so that it can be killed and removed (a process frozen by cgroup v1
  /// cannot), or removes an image. Nothing to forget is no error. Bounded by a few seconds of its own.
  virtual base::Status discard(const TierSubject& subject) = 0;
};

}  // namespace thaw::node
