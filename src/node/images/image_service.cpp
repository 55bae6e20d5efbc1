#include "node/images/image_service.h"

#include <algorithm>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/units.h"
#include "node/sandbox/clock.h"
#include "node/tiers/criu_driver.h"
#include "node/tiers/runsc_driver.h"

namespace thaw::node {
namespace {

constexpr auto kLookForStarts = base::Millis(50);
constexpr auto kPoliteness =
    base::Seconds(30);  // longest wait for a moment without starts; the least share of the CPU is polite enough then

}  // namespace

wire::ImageInfo info_of(const Manifest& manifest) {
  wire::ImageInfo info;
  info.image = manifest.image;
  info.model = manifest.model;
  info.driver = manifest.driver == "criu" ? wire::DriverKind::criu : wire::DriverKind::runsc;
  info.bytes = manifest.bytes();
  info.device_bytes = manifest.device_bytes;
  info.created_unix_s = manifest.created_unix_s;
  return info;
}

std::map<spec::SandboxKind, ImageService::Way> ImageService::ways_of(const AgentConfig& config, Sandboxes& sandboxes) {
  std::map<spec::SandboxKind, Way> ways;
  if (const auto runsc = sandboxes.runsc(); runsc.ok()) {
    const RunscInfo& info = (*runsc)->info();
    ways[spec::SandboxKind::runsc] = {
        *runsc,
        std::make_unique<RunscDriver>(*runsc, config.engine_paths, probe_ready, [&sandboxes] { return sandboxes.take_for_restore(); }),
        fmt::format("runsc {} {} {}", info.version, info.platform(), RunscMaker::kLayout)};
  }
  if (const auto runc = sandboxes.runc(); runc.ok() && (*runc)->criu().ok())
    ways[spec::SandboxKind::runc] = {*runc, std::make_unique<CriuDriver>(*runc, config.engine_paths), (*runc)->image_runtime()};
  return ways;
}

std::vector<wire::DriverInfo> ImageService::drivers(const AgentConfig& config, const Sandboxes& sandboxes) {
  const RunscDriver runsc(sandboxes.runsc(), config.engine_paths);
  const CriuDriver criu(sandboxes.runc(), config.engine_paths);
  const auto info_of = [&](wire::DriverKind kind, spec::SandboxKind sandbox, const Capability& capability) {
    wire::DriverInfo info{kind, spec::DeviceKind::cpu, false, capability.works, ""};
    info.opt_in = config.settings.sandbox != sandbox;
    if (!capability.works) info.why_not = capability.detail + (capability.remedy.empty() ? "" : "; " + capability.remedy);
    return info;
  };
  return {info_of(wire::DriverKind::runsc, spec::SandboxKind::runsc, runsc.capability()),
          info_of(wire::DriverKind::criu, spec::SandboxKind::runc, criu.capability())};
}

base::Result<std::unique_ptr<ImageService>> ImageService::open(const AgentConfig& config, Sandboxes& sandboxes,
                                                               EventSink sink) {
  std::map<spec::SandboxKind, Way> ways = ways_of(config, sandboxes);
  if (ways.empty()) return base::Error{base::ErrorKind::unavailable, "no driver for images works here (thaw doctor says why)"};
  std::vector<ImageStore::Dropped> dropped;
  THAW_ASSIGN_OR_RETURN(auto store,
                        ImageStore::open({config.data_dir + "/images", config.settings.image_budget_bytes}, dropped));
  for (const ImageStore::Dropped& one : dropped)
    spdlog::warn("image {} is of no use and was removed: {}", one.image.str(), one.reason);
  return std::unique_ptr<ImageService>(new ImageService(config, sandboxes, std::move(ways), std::move(store), std::move(sink)));
}

ImageService::ImageService(const AgentConfig& config, Sandboxes& sandboxes, std::map<spec::SandboxKind, Way> ways,
                           std::unique_ptr<ImageStore> store, EventSink sink)
    : config_(config),
      sandboxes_(sandboxes),
      ways_(std::move(ways)),
      store_(std::move(store)),
      sink_(std::move(sink)) {
  maker_thread_ = std::thread([this] { make_images(); });
  remover_thread_ = std::thread([this] { remove_images(); });
}

ImageService::~ImageService() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    if (current_) current_->stop.request_stop();
    for (const JobPtr& job : jobs_) job->stop.request_stop();  // answered one after the other, each at once
  }
  changed_.notify_all();
  maker_thread_.join();
  remover_thread_.join();
}

std::vector<wire::ImageInfo> ImageService::images() const {
  std::vector<wire::ImageInfo> all;
  for (const Manifest& manifest : store_->list()) all.push_back(info_of(manifest));
  return all;
}

/// Of the kind of sandbox that the model runs in anyway: in another one its engine may answer far more slowly.
base::Result<ImageTools> ImageService::tools_for(const spec::ModelSpec& model) {
  const spec::SandboxKind kind = sandboxes_.kind_for(model);
  const auto found = ways_.find(kind);
  if (found != ways_.end()) {
    const Way& way = found->second;
    return ImageTools{*way.maker, kind, *way.driver, way.runtime, *store_, config_.engine_paths};
  }
  std::string why = fmt::format("no images are made of {} sandboxes here, and {} runs in one", to_string(kind), model.name.str());
  for (const wire::DriverInfo& info : drivers(config_, sandboxes_))
    why += fmt::format("; {}: {}", to_string(info.driver), info.snapshot ? "works" : info.why_not);
  return base::Error{base::ErrorKind::unavailable, std::move(why)};
}

// --- making

void ImageService::submit(wire::TakeSnapshot command) {
  auto job = std::make_shared<Job>();
  job->command = std::move(command);
  job->received = now();
  {
    const std::lock_guard lock(mutex_);
    if (closing_ || jobs_.size() >= kMaxWaiting) job->stop.request_stop();
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
}

bool ImageService::cancel(base::InstanceId instance) {
  const std::lock_guard lock(mutex_);
  if (current_ && current_->command.instance == instance) {
    current_->stop.request_stop();
    return true;
  }
  const auto found =
      std::find_if(jobs_.begin(), jobs_.end(), [&](const JobPtr& job) { return job->command.instance == instance; });
  if (found == jobs_.end()) return false;
  (*found)->stop.request_stop();
  // Answered next: whoever cancels wants its bytes back.
  std::rotate(jobs_.begin(), found, found + 1);
  return true;
}

void ImageService::make_images() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    current_ = std::move(jobs_.front());
    jobs_.pop_front();
    const JobPtr job = current_;
    lock.unlock();
    make(*job);
    lock.lock();
    current_.reset();
  }
}

void ImageService::make(Job& job) {
  const wire::TakeSnapshot& command = job.command;
  const TierCall call{job.received + command.deadline, job.stop.get_token()};
  std::vector<ImageStore::Dropped> dropped;
  const auto tools = tools_for(command.model);
  const base::Status begin = tools.ok() ? wait_for_starts(call) : base::Status(tools.error());
  base::Result<Snapshot> snapshot =
      begin.ok() ? take_snapshot(command, *tools, call, dropped) : base::Result<Snapshot>(begin.error());
  tell(dropped);
  if (snapshot.ok()) {
    spdlog::info("{}: image {} of {} was made: {}", command.model.name.str(), command.image.str(),
                 base::format_bytes(snapshot->manifest.bytes()), snapshot->manifest.choice);
    sink_(wire::SnapshotTaken{command.instance, info_of(snapshot->manifest), std::move(snapshot->phases)});
  } else {
    sink_(wire::SnapshotFailed{command.instance, command.image, command.model.name, snapshot.error().message});
  }
  sink_(wire::InstanceGone{command.instance});
}

base::Status ImageService::wait_for_starts(const TierCall& call) const {
  const base::TimePoint patience = now() + kPoliteness;
  THAW_RETURN_IF_ERROR(call.go_on());
  while (sandboxes_.starting() && now() < patience) THAW_RETURN_IF_ERROR(call.pause(kLookForStarts));
  return {};
}

// --- using

base::Result<Restored> ImageService::restore(const wire::StartInstance& start, const TierCall& call) {
  THAW_ASSIGN_OR_RETURN(const ImageTools tools, tools_for(start.model));
  auto restored = restore_image(start, tools, call);
  if (restored.ok()) return restored;
  const base::ErrorKind kind = restored.error().kind;
  if (kind == base::ErrorKind::conflict || kind == base::ErrorKind::not_found)
    remove(start.image, restored.error().message);
  return restored;
}

// --- removing

void ImageService::submit(wire::DropImage command) {
  {
    const std::lock_guard lock(mutex_);
    drops_.push_back(std::move(command.image));
  }
  changed_.notify_all();
}

void ImageService::remove_images() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !drops_.empty(); });
    if (drops_.empty()) return;
    const base::ImageId image = std::move(drops_.front());
    drops_.pop_front();
    lock.unlock();
    remove(image, "dropped");
    lock.lock();
  }
}

void ImageService::remove(const base::ImageId& image, const std::string& reason) {
  const auto freed = store_->drop(image);
  if (!freed.ok()) spdlog::error("{}", freed.error().message);
  tell({{image, freed.ok() ? *freed : 0, reason}});
}

void ImageService::tell(const std::vector<ImageStore::Dropped>& dropped) {
  for (const ImageStore::Dropped& one : dropped) sink_(wire::ImageGone{one.image, one.freed_bytes, one.reason});
}

}  // namespace thaw::node
