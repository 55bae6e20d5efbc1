#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "control/cause.h"
#include "control/demand.h"
#include "control/rest_policy.h"
#include "control/scheduler.h"
#include "control/shortlist.h"
#include "control/victims.h"
#include "control/warm_weights.h"
#include "wire/messages.h"

/// Books of what there is to take: machines, their devices, and the images on their disks.
namespace thaw::control {

struct Device;
struct Instance;
struct Model;
struct Node;
struct Tenant;

/// A snapshot on a node's disk. Its bytes are reserved until the node says that it is gone.
struct Image {
  wire::ImageInfo info;
  Node* node = nullptr;
  Model* model = nullptr;          ///< null: not deployed at present
  bool dropping = false;           ///< its end was ordered; nobody is restored from it any more
  std::uint32_t restores = 0;      ///< from it that came up
  std::uint32_t failures = 0;      ///< restores from it that did not, since one last did
};

/// What a machine's instances share: host memory, disk, drivers.
struct Node {
  Node();

  std::uint64_t number = 0;           ///< nodes in the order in which they came
  base::NodeName name;
  std::uint32_t domain = 0;           ///< what it fails together with (State::domain_of)
  std::string domain_name;            ///< as it named it; empty: it did not
  std::vector<Device*> devices;       ///< in their order
  std::vector<wire::DriverInfo> drivers;
  std::uint64_t host_budget = 0;
  std::uint64_t host_reserved = 0;    ///< by its instances; more than the budget if they turn out to hold more
  std::uint64_t host_leaving = 0;     ///< of that, by those whose end was ordered
  ByValue resting;                    ///< its instances in standby, by what a byte of their host memory is worth
  std::uint64_t image_budget = 0;
  std::uint64_t image_leaving = 0;    ///< of what is reserved, by images whose end was ordered
  std::uint64_t image_reserved = 0;   ///< by images and by those that are being made
  std::map<base::ImageId, std::unique_ptr<Image>> images;
  std::uint32_t imaging = 0;          ///< replicas that are being made images of
  base::Duration fastest_restore{};   ///< of anything, ever; 0: none yet
  double read_bytes_per_s = 0;        ///< of weights during starts, learnt; 0: unknown
  std::uint64_t cache_budget = 0;     ///< host memory for weights and instances together
  WarmWeights warm;                   ///< that are in its memory, as far as can be told
  CostEstimate stops;                 ///< from the order to the end of an instance
  double disk_wait_s = 0;             ///< that a way up waited for the disk, on average over the last few
  base::TimePoint disk_busy_until{};  ///< with what was promised to those on their way up

  [[nodiscard]] bool can_freeze(spec::DeviceKind kind) const;
  [[nodiscard]] bool can_snapshot(const spec::ModelSpec& model) const;
};

struct Device {
  Node* owner = nullptr;
  base::NodeName node;
  wire::DeviceInfo info;
  Duty duty = Duty::open;
  std::uint64_t reserved = 0;         ///< by every instance that is not gone
  std::vector<Instance*> instances;   ///< not gone
  base::TimePoint bus_busy_until{};   ///< with what was promised to those on their way up or down
  struct Claim {
    Model* model;
    std::uint64_t bytes;
    const char* reason;
    Instance* wake;                   ///< whom to wake with them; null: a new instance
    base::TimePoint expects_until;    ///< as in Offer
    std::uint64_t number;             ///< the same on all devices of a gang, in the order in which claims were made
    std::vector<Device*> gang;        ///< all its devices, of which each has the claim; empty: this one alone
    Tenant* tenant;                   ///< for whom
    Cause cause;
  };
  /// Ways up that were decided on and wait for others' bytes to return, in order: nobody may take those bytes in between.
  std::vector<Claim> claims;
  bool freed = false;                 ///< a claim or an instance left since revive_evicted() looked
  bool changed = false;               ///< in State::changed
  std::vector<Model*> pinned;         ///< those for whom it is kept, in the order in which they began to wait
  ShortlistEntry entry;

  [[nodiscard]] std::uint64_t claimed() const;
  [[nodiscard]] std::uint64_t pinned_bytes() const;
};

}  // namespace thaw::control
