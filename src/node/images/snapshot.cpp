#include "node/images/snapshot.h"

#include <algorithm>
#include <ctime>
#include <optional>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "base/tenancy.h"
#include "base/units.h"
#include "node/engine/engine.h"
#include "node/engine/http_client.h"
#include "node/images/replica.h"
#include "node/sandbox/clock.h"
#include "node/tiers/holdings.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr const char* kNoRepack = "--no-repack";
// An image up to this, or up to this share of the weights, is small: they are not in it.
constexpr std::uint64_t kSmall_bytes = 64ULL << 20;
constexpr std::uint64_t kSmallShare = 10;
constexpr int kRateRounds = 3;

wire::StartInstance start_of(const wire::TakeSnapshot& command, const std::vector<std::string>& extra_args) {
  wire::StartInstance start;
  start.instance = command.instance;
  start.model = command.model;
  start.model.args.insert(start.model.args.end(), extra_args.begin(), extra_args.end());
  start.device = command.device;
  start.devices = command.devices;
  start.deadline = command.deadline;
  start.tenant = base::tenant_of(command.model.name);
  return start;
}

TierSubject subject_of(const wire::StartInstance& start, const EngineLaunch& launch) {
  TierSubject subject;
  subject.instance = start.instance;
  subject.model = start.model;
  subject.device = start.device;
  subject.devices = start.devices;
  subject.weight_files = launch.model_files;
  return subject;
}

/// One way of starting the engine, its image and how fast it answered before.
struct Variant {
  std::vector<std::string> extra_args;
  std::unique_ptr<ImageDraft> draft;
  std::uint64_t image_bytes = 0;
  double tokens_per_s = 0;  ///< 0: not measured
  base::Duration start_took{};

  [[nodiscard]] std::string text() const {
    return fmt::format("{}: {}, {:.1f} tokens/s", extra_args.empty() ? "as it is" : extra_args.front(),
                       base::format_bytes(image_bytes), tokens_per_s);
  }
};

class SnapshotWork {
 public:
  SnapshotWork(const wire::TakeSnapshot& command, const ImageTools& tools, const TierCall& call,
               std::vector<ImageStore::Dropped>& dropped)
      : command_(command), tools_(tools), call_(call), dropped_(dropped), begun_(now()) {}

  base::Result<Snapshot> run();

 private:
  base::Result<Variant> make_variant(std::vector<std::string> extra_args, std::uint64_t max_bytes, const char* name);
  [[nodiscard]] bool worth_a_second(const Variant& first) const;
  /// The better one, and why, for people.
  Variant choose(Variant first, std::string& why);
  void phase(const std::string& name, base::TimePoint begun) {
    phases_.push_back({name, begun - begun_, now() - begun});
  }

  const wire::TakeSnapshot& command_;
  const ImageTools& tools_;
  const TierCall& call_;
  std::vector<ImageStore::Dropped>& dropped_;
  base::TimePoint begun_;
  std::vector<wire::Phase> phases_;
};

base::Result<Snapshot> SnapshotWork::run() {
  THAW_ASSIGN_OR_RETURN(Origin origin, origin_of(start_of(command_, {}), tools_));
  THAW_ASSIGN_OR_RETURN(Variant first, make_variant({}, command_.max_bytes, "start"));
  std::string why;
  Variant chosen = choose(std::move(first), why);
  const base::TimePoint writing = now();
  Manifest manifest;
  manifest.image = command_.image;
  manifest.model = command_.model.name;
  manifest.driver = std::string(tools_.driver.name());
  manifest.created_unix_s = static_cast<std::uint64_t>(std::time(nullptr));
  manifest.device_bytes = command_.model.resources.device_memory_bytes.value_or(0);
  manifest.start_took = chosen.start_took;
  manifest.origin = std::move(origin);
  manifest.extra_args = chosen.extra_args;
  manifest.choice = std::move(why);
  THAW_RETURN_IF_ERROR(call_.go_on());
  THAW_ASSIGN_OR_RETURN(manifest, tools_.store.commit(std::move(chosen.draft), std::move(manifest)));
  phase("write", writing);
  return Snapshot{std::move(manifest), std::move(phases_)};
}

base::Result<Variant> SnapshotWork::make_variant(std::vector<std::string> extra_args, std::uint64_t max_bytes,
                                                 const char* name) {
  Variant variant;
  variant.extra_args = std::move(extra_args);
  const base::ImageId draft_id(variant.extra_args.empty() ? command_.image.str()
                                                          : command_.image.str().substr(0, 90) + ".b");
  THAW_ASSIGN_OR_RETURN(variant.draft, tools_.store.begin(draft_id, max_bytes, dropped_));
  const wire::StartInstance start = start_of(command_, variant.extra_args);

  const base::TimePoint starting = now();
  THAW_ASSIGN_OR_RETURN(const auto replica, LonelyReplica::start(start, tools_, call_));
  variant.start_took = now() - starting;
  phase(name, starting);
  const base::TimePoint warming = now();
  THAW_RETURN_IF_ERROR(replica->warm_up(call_));
  phase("warm-up", warming);
  for (int round = 0; round < kRateRounds; ++round)
    variant.tokens_per_s = std::max(variant.tokens_per_s, replica->tokens_per_s(call_));

  TierSubject subject = subject_of(start, replica->launch());
  subject.sandbox = &replica->sandbox();
  subject.image = variant.draft->directory();
  TierOutcome outcome = tools_.driver.down(subject, call_);
  for (wire::Phase& part : outcome.phases)
    phases_.push_back({part.name, now() - begun_ - part.duration, part.duration});
  if (outcome.error)
    return outcome.error->within("cannot make an image of " + command_.model.name.str() + replica->last_words());
  variant.image_bytes = outcome.image_bytes;
  if (variant.image_bytes > max_bytes)
    return Error{ErrorKind::exhausted,
                 fmt::format("the image has {}, and {} were reserved for it", base::format_bytes(variant.image_bytes),
                             base::format_bytes(max_bytes))};
  return variant;
}

bool SnapshotWork::worth_a_second(const Variant& first) const {
  const auto& args = command_.model.args;
  if (command_.model.engine != spec::EngineKind::llama_cpp) return false;
  for (const char* given : {kNoRepack, "--repack"})
    if (std::find(args.begin(), args.end(), given) != args.end()) return false;
  const auto weights = identity_of(command_.model.source.path);
  const std::uint64_t weights_bytes = weights.ok() ? weights->bytes : 0;
  return first.image_bytes > std::max(kSmall_bytes, weights_bytes / kSmallShare);
}

Variant SnapshotWork::choose(Variant first, std::string& why) {
  why = first.text();
  if (!worth_a_second(first)) return first;
  auto second = make_variant({kNoRepack}, first.image_bytes / 2, "start without repacking");
  if (!second.ok()) {
    why += fmt::format("; {}: {}", kNoRepack, second.error().message);
    return first;
  }
  const double kept = first.tokens_per_s > 0 ? second->tokens_per_s / first.tokens_per_s : 0;
  const bool take_second = kept >= 1 - kMaxRateLoss;
  why += fmt::format("; {}; {:.0f}% of the token rate: the {} one is taken", second->text(), kept * 100,
                     take_second ? "small" : "fast");
  if (take_second) return std::move(second).value();
  return first;
}

}  // namespace

base::Result<Origin> origin_of(const wire::StartInstance& start, const ImageTools& tools) {
  THAW_ASSIGN_OR_RETURN(const std::string engine, find_engine(start.model.engine, start.model, tools.engine_paths));
  THAW_ASSIGN_OR_RETURN(EngineLaunch launch, plan_launch(start, engine, tools.maker.view(start.instance)));
  if (launch.engine_dir.empty())
    return Error{ErrorKind::unavailable, "cannot tell versions of " + engine + " apart: it is the host's own; give the engine a directory of its own"};
  Origin origin;
  origin.runtime = tools.runtime;
  THAW_ASSIGN_OR_RETURN(origin.cpu, cpu_features());
  origin.engine = launch.engine_dir;
  THAW_ASSIGN_OR_RETURN(origin.engine_digest, engine_digest(launch.engine_dir));
  for (const std::string& file : launch.model_files) {
    THAW_ASSIGN_OR_RETURN(FileIdentity identity, identity_of(file));
    origin.model_files.push_back(std::move(identity));
  }
  origin.argv = std::move(launch.argv);
  origin.env = std::move(launch.env);
  return origin;
}

base::Result<Snapshot> take_snapshot(const wire::TakeSnapshot& command, const ImageTools& tools, const TierCall& call,
                                     std::vector<ImageStore::Dropped>& dropped) {
  THAW_RETURN_IF_ERROR(call.go_on());
  return SnapshotWork(command, tools, call, dropped).run();
}

base::Result<Restored> restore_image(const wire::StartInstance& start, const ImageTools& tools, const TierCall& call) {
  const base::TimePoint begun = now();
  THAW_ASSIGN_OR_RETURN(const Origin origin, origin_of(start, tools));
  THAW_ASSIGN_OR_RETURN(const Manifest manifest, tools.store.check(start.image, origin));
  if (manifest.model != start.model.name)
    return Error{ErrorKind::conflict, "it is an image of " + manifest.model.str()};
  TierSubject subject;
  subject.instance = start.instance;
  subject.model = start.model;
  subject.model.args.insert(subject.model.args.end(), manifest.extra_args.begin(), manifest.extra_args.end());
  subject.device = start.device;
  subject.devices = start.devices;
  for (const FileIdentity& file : origin.model_files) subject.weight_files.push_back(file.path);
  subject.image = tools.store.directory_of(start.image);
  const base::Duration checked = now() - begun;
  TierOutcome outcome = tools.driver.up(subject, call);
  if (outcome.error) {
    // Whatever the runtime did not like about it, it will not like the next time.
    const bool in_time = outcome.error->kind != ErrorKind::timeout && outcome.error->kind != ErrorKind::unavailable;
    return Error{in_time ? ErrorKind::conflict : outcome.error->kind, outcome.error->message};
  }
  tools.store.note_use(start.image, now() - begun);
  Restored restored{std::move(outcome.sandbox), {{"check", {}, checked}}};
  for (wire::Phase& phase : outcome.phases)
    restored.phases.push_back({phase.name, phase.start + checked, phase.duration});
  return restored;
}

}  // namespace thaw::node
