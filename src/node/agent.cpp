#include "node/agent.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include <spdlog/spdlog.h>

#include "node/caches/compile_caches.h"
#include "node/device/devices.h"
#include "node/egress/egress.h"
#include "node/engine/http_client.h"
#include "node/file_hasher.h"
#include "node/host_access.h"
#include "node/images/image_service.h"
#include "node/oci/container_images.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"
#include "node/sandbox/leftovers.h"
#include "node/sandbox/sandboxes.h"
#include "node/shown_paths.h"
#include "node/supervisor.h"
#include "node/tiers/drivers.h"
#include "node/weights/host_cache.h"
#include "node/weights/page_fill.h"
#include "spec/trust.h"

namespace thaw::node {
namespace {

constexpr const char* kRootHome = "/run/thaw";
constexpr auto kOneEngine = base::Millis(250);  // for one engine's metrics

/// libthaw_lazy_map.so, which belongs beside thaw-init; empty when it is not there: engines then begin later, and that is all.
std::string lazy_map_beside(const std::string& init_path) {
  std::string path = std::filesystem::path(init_path).parent_path() / "libthaw_lazy_map.so";
  if (::access(path.c_str(), R_OK) == 0) return path;
  spdlog::warn("no {}: engines wait for all their weights before they begin to compute", path);
  return {};
}

/// What weights may take: on their own what was set, and together with the CPU device's instances its budget; the whole memory where the size was
/// set by hand.
wire::HostCacheInfo host_cache_info(const std::optional<std::uint64_t>& set_bytes, const std::vector<wire::DeviceInfo>& devices) {
  const auto cpu = std::find_if(devices.begin(), devices.end(),
                                [](const wire::DeviceInfo& device) { return device.kind == spec::DeviceKind::cpu; });
  if (cpu == devices.end()) return {set_bytes.value_or(0), set_bytes.value_or(0)};
  return {set_bytes.value_or(cpu->budget_bytes), set_bytes ? cpu->total_bytes : cpu->budget_bytes};
}

/// /run/thaw/<label of the data directory> for root: sockets need short paths, and sandboxes do not survive a reboot either. Other users
/// have no /run, and keep it in the data directory.
SandboxHome home_of(const AgentConfig& config) {
  SandboxHome home;
  home.label = label_of(config.data_dir);
  home.directory = ::geteuid() == 0 ? std::string(kRootHome) + "/" + home.label : config.data_dir + "/instances";
  home.init_path = config.init_path;
  home.lazy_map_path = lazy_map_beside(config.init_path);
  home.uid_base = config.settings.uid_base;
  return home;
}

/// A tenant's model that chooses no sandbox gets the one for tenants. What it may not have, the start refuses.
void confine(wire::StartInstance& start, const spec::ServerConfig::Node& settings) {
  const spec::Trust trust = spec::trust_of(start.tenant);
  if (trust == spec::Trust::own) return;
  const auto kind = spec::sandbox_kind_for(trust, start.model, {settings.sandbox, settings.tenant_sandbox});
  if (kind.ok() && *kind != spec::SandboxKind::none) start.model.sandbox = *kind;
}

}  // namespace

struct Agent::Impl {
  Impl(AgentConfig given, EventSink events) : config(std::move(given)), sink(std::move(events)) {}

  AgentConfig config;
  EventSink sink;
  // In the order of their lives: each uses those above it.
  Fd lock;
  SandboxHome home;
  Egress egress;
  std::unique_ptr<Sandboxes> sandboxes;
  std::unique_ptr<HostCache> cache;
  std::unique_ptr<ImageService> images;  ///< null: this node makes none
  std::unique_ptr<CompileCaches> compile_caches;  ///< null: none are kept
  std::unique_ptr<ContainerImages> container_images;  ///< null: why_no_container_images
  base::Error why_no_container_images{base::ErrorKind::unavailable, "this node has no container images"};
  std::unique_ptr<TierDrivers> drivers;
  std::unique_ptr<Supervisor> supervisor;
  std::unique_ptr<FileHasher> hasher;

  void hash(const wire::HashFile& command);
  base::Status prepare_directories();
  base::Status prepare_cgroups();
  std::vector<wire::DriverInfo> open_images(const EventSink& node_sink);
  void open_compile_caches();
  void open_container_images();
  void remove_home();
};

base::Status Agent::Impl::prepare_directories() {
  THAW_RETURN_IF_ERROR(make_directories(config.data_dir, 0700));
  std::error_code error;
  // The label must not depend on how the directory is spelt.
  config.data_dir = std::filesystem::canonical(config.data_dir, error);
  if (error) return base::errno_error("cannot resolve the data directory", error.value());
  THAW_ASSIGN_OR_RETURN(lock, lock_data_dir(config.data_dir));
  home = home_of(config);
  return make_directories(home.directory, 0755);
}

base::Status Agent::Impl::prepare_cgroups() {
  auto detected = CgroupHost::detect();
  if (detected.ok()) home.cgroups = std::move(detected).value();
  if (config.settings.sandbox != spec::SandboxKind::none) return detected.ok() ? base::Status() : detected.error();
  // Without sandboxes limits are as good as this user's rights allow.
  base::Status usable = detected.ok() ? home.cgroups->prepare_parent(home.label) : base::Status(detected.error());
  const Cgroup probe(home.cgroups, home.cgroups ? home.cgroups->parent_path(home.label) + "/probe" : "");
  if (usable.ok()) usable = probe.create();
  if (usable.ok()) usable = probe.remove(base::Seconds(1));
  if (usable.ok()) return {};
  spdlog::warn("engines run without memory and CPU limits: {}", usable.error().message);
  home.cgroups = nullptr;
  return {};
}

/// Images are no condition for a node: without, it says why.
std::vector<wire::DriverInfo> Agent::Impl::open_images(const EventSink& node_sink) {
  std::vector<wire::DriverInfo> infos = ImageService::drivers(config, *sandboxes);
  if (std::none_of(infos.begin(), infos.end(), [](const wire::DriverInfo& info) { return info.snapshot; })) return infos;
  auto opened = ImageService::open(config, *sandboxes, node_sink);
  if (opened.ok()) {
    images = std::move(opened).value();
    return infos;
  }
  for (wire::DriverInfo& info : infos) {
    if (!info.snapshot) continue;
    info.snapshot = false;
    info.why_not = opened.error().message;
  }
  return infos;
}

/// Without them engines compile anew, and that is all.
void Agent::Impl::open_compile_caches() {
  if (config.settings.compile_cache_budget_bytes == 0) return;
  auto opened = CompileCaches::open({config.data_dir + "/compile-caches", config.settings.compile_cache_budget_bytes});
  if (opened.ok())
    compile_caches = std::move(opened).value();
  else
    spdlog::warn("no compile caches are kept: {}", opened.error().message);
}

/// Models without spec.image need none.
void Agent::Impl::open_container_images() {
  const auto none = [this](base::Error why) { why_no_container_images = std::move(why); };
  const auto unavailable = [](const char* why) { return base::Error{base::ErrorKind::unavailable, why}; };
  const auto& settings = config.settings.container_images;
  if (config.settings.sandbox == spec::SandboxKind::none)
    return none(unavailable("container images need sandboxes, and this node has none (--sandbox=none)"));
  if (settings.budget_bytes == 0) return none(unavailable("container images are turned off (node.containerImages.budget is 0)"));
  auto opened = ContainerImages::open({.directory = config.data_dir + "/oci",
                                       .settings = settings,
                                       .home = home,
                                       .network = [this](const spec::ImageRef& ref) {
                                         return egress.registry_network(ref, config.settings.container_images);
                                       }});
  if (!opened.ok()) {
    spdlog::warn("no container images: {}", opened.error().message);
    return none(opened.error());
  }
  container_images = std::move(opened).value();
  sandboxes->set_container_images(container_images.get());
}

void Agent::Impl::hash(const wire::HashFile& command) {
  hasher->hash(command.path, command.urgent, [this, id = command.id, path = command.path](base::Result<HashedFile> hashed) {
    wire::FileHashed answer{id, {path, 0, 0, 0}, "", ""};
    if (hashed.ok()) {
      answer.file = std::move(hashed->file);
      answer.sha256 = std::move(hashed->sha256);
    } else {
      answer.error = hashed.error().message;
    }
    sink(std::move(answer));
  });
}

void Agent::Impl::remove_home() {
  if (home.cgroups) home.cgroups->remove_parent(home.label);
  if (auto removed = remove_tree(home.directory); !removed.ok()) spdlog::warn("{}", removed.error().message);
  if (::geteuid() == 0) ::rmdir(kRootHome);  // refused while another server has its own in it
}

Agent::Agent(AgentConfig config, EventSink sink) : impl_(std::make_unique<Impl>(std::move(config), std::move(sink))) {}

Agent::~Agent() {
  impl_->hasher.reset();
  impl_->supervisor.reset();
  impl_->drivers.reset();
  impl_->images.reset();  // tells the cache of its replicas' ends
  impl_->cache.reset();
  impl_->sandboxes.reset();
  impl_->container_images.reset();  // sandboxes had their layers
  impl_->compile_caches.reset();
  if (impl_->lock && !impl_->home.directory.empty()) impl_->remove_home();
}

base::Result<wire::NodeHello> Agent::open() {
  if (impl_->config.settings.sandbox != spec::SandboxKind::none) THAW_RETURN_IF_ERROR(check_privileges());
  THAW_RETURN_IF_ERROR(impl_->prepare_directories());
  THAW_RETURN_IF_ERROR(impl_->prepare_cgroups());
  THAW_ASSIGN_OR_RETURN(const int removed, remove_leftovers(impl_->home));
  if (removed > 0) spdlog::warn("removed {} sandboxes that an earlier run left behind", removed);
  THAW_RETURN_IF_ERROR(adopt_orphans());
  THAW_ASSIGN_OR_RETURN(impl_->sandboxes, Sandboxes::open(impl_->home, impl_->config.settings));
  impl_->sandboxes->set_egress(&impl_->egress);
  impl_->open_container_images();
  wire::NodeHello hello;
  hello.node = impl_->config.node;
  hello.domain = impl_->config.settings.domain;
  hello.devices = find_devices(impl_->config);
  hello.host_cache = host_cache_info(impl_->config.settings.host_cache_bytes, hello.devices);
  const bool cuda = std::any_of(hello.devices.begin(), hello.devices.end(), [](const auto& device) { return device.kind == spec::DeviceKind::cuda; });
  auto filler = std::make_unique<PageFiller>();
  impl_->drivers = std::make_unique<TierDrivers>(impl_->home, *filler, cuda);
  hello.drivers = impl_->drivers->infos();
  hello.host_budget_bytes = host_shares(impl_->config, cuda).gpu_bytes;
  impl_->cache = std::make_unique<HostCache>(impl_->config.node, impl_->sink);
  const auto sink = [impl = impl_.get()](wire::NodeEvent event) {
    if (const auto* gone = std::get_if<wire::InstanceGone>(&event)) impl->cache->instance_gone(gone->instance);
    if (const auto* ready = std::get_if<wire::InstanceReady>(&event); ready != nullptr && ready->copied_weights)
      impl->cache->instance_copied(ready->instance);
    impl->sink(std::move(event));
  };
  for (wire::DriverInfo& info : impl_->open_images(sink)) hello.drivers.push_back(std::move(info));
  if (impl_->images) {
    hello.images = impl_->images->images();
    hello.image_budget_bytes = impl_->images->budget_bytes();
  }
  impl_->open_compile_caches();
  THAW_ASSIGN_OR_RETURN(impl_->supervisor, Supervisor::start(impl_->config, *impl_->sandboxes, impl_->images.get(), impl_->compile_caches.get(),
                                                             std::move(filler), *impl_->drivers, sink));
  impl_->hasher = std::make_unique<FileHasher>(
      [supervisor = impl_->supervisor.get()] { return supervisor->starting() || supervisor->weights_read().under_way > 0; });
  return hello;
}

void Agent::submit(wire::NodeCommand command) {
  if (const auto* hash = std::get_if<wire::HashFile>(&command)) return impl_->hash(*hash);
  if (auto* look = std::get_if<wire::LookAtWeights>(&command)) return impl_->cache->submit(std::move(*look));
  if (auto* evict = std::get_if<wire::EvictWeights>(&command)) return impl_->cache->submit(std::move(*evict));
  if (const auto* forget = std::get_if<wire::ForgetModel>(&command)) {
    if (impl_->compile_caches) impl_->compile_caches->forget(forget->tenant, forget->model);
    return;
  }
  if (auto* start = std::get_if<wire::StartInstance>(&command)) {
    impl_->cache->instance_started(start->instance, start->model.source.path);
    confine(*start, impl_->config.settings);
  }
  if (const auto* take = std::get_if<wire::TakeSnapshot>(&command))
    impl_->cache->instance_started(take->instance, take->model.source.path);
  if (impl_->images) {
    if (auto* take = std::get_if<wire::TakeSnapshot>(&command)) return impl_->images->submit(std::move(*take));
    if (auto* drop = std::get_if<wire::DropImage>(&command)) return impl_->images->submit(std::move(*drop));
    if (const auto* stop = std::get_if<wire::StopInstance>(&command); stop != nullptr && impl_->images->cancel(stop->instance)) return;
  }
  impl_->supervisor->submit(std::move(command));
}

std::vector<std::optional<wire::WeightsState>> Agent::look_at_weights(const std::vector<std::string>& sources,
                                                                      base::Duration at_most) {
  return impl_->cache->look(sources, at_most);
}

base::Result<wire::WeightsEvicted> Agent::evict_weights(const std::string& source) { return impl_->cache->evict(source); }

base::Result<ContainerImages*> Agent::container_images() const {
  if (impl_->container_images) return impl_->container_images.get();
  return impl_->why_no_container_images;
}

Egress& Agent::egress() const { return impl_->egress; }

base::Result<std::string> Agent::resolve_image(const std::string& image) const {
  THAW_ASSIGN_OR_RETURN(ContainerImages * images, container_images());
  THAW_ASSIGN_OR_RETURN(const spec::ImageRef ref, spec::parse_image_ref(image, ""));
  if (ref.transport != spec::ImageTransport::docker)
    THAW_RETURN_IF_ERROR(check_shown_paths({ref.path}, impl_->config.data_dir, impl_->config.settings.secrets_dir));
  return images->resolve(image);
}

base::Result<Agent::Usage> Agent::usage(base::InstanceId instance) const { return impl_->supervisor->usage(instance); }

std::vector<Agent::EngineMetrics> Agent::engine_metrics(const std::vector<base::InstanceId>& instances,
                                                        base::Duration at_most) const {
  const base::TimePoint deadline = now() + at_most;
  std::vector<EngineMetrics> all;
  for (const base::InstanceId instance : instances) {
    const base::TimePoint at = now();
    if (at >= deadline) break;
    const std::string address = impl_->supervisor->ready_address(instance);
    if (address.empty()) continue;
    auto answer = ask_engine(address, {"GET", "/metrics"}, std::min<base::TimePoint>(deadline, at + kOneEngine));
    if (answer.ok() && answer->status == 200) all.push_back({instance, std::move(answer->body)});
  }
  return all;
}

FillTotals Agent::weights_read() const { return impl_->supervisor->weights_read(); }

}  // namespace thaw::node
