#include "node/start.h"

#include <algorithm>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/revision.h"
#include "base/units.h"
#include "node/caches/compile_caches.h"
#include "node/device/grants.h"
#include "node/egress/egress.h"
#include "node/engine/engine.h"
#include "node/images/image_service.h"
#include "node/limits.h"
#include "node/oci/container_images.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/io_limit.h"
#include "node/sandbox/network.h"
#include "node/shown_paths.h"
#include "spec/trust.h"

namespace thaw::node {
namespace {

constexpr auto kProbeTimeout = base::Seconds(1);  // of one probe; a stop or an exit closes the connection and ends it sooner

/// In proportion to the wait so far: it adds 3% to it at most, and leaves an engine that loads for long in peace.
base::Duration probe_pause(base::Duration waited) { return std::clamp<base::Duration>(waited / 32, base::Millis(2), base::Millis(50)); }

base::Error ended_error() { return {base::ErrorKind::unavailable, "the start ended early"}; }

/// Names consecutive stretches of time.
class PhaseClock {
 public:
  explicit PhaseClock(base::TimePoint received) : received_(received), begun_(now()) {}
  void finish(const char* name) {
    const base::TimePoint at = now();
    phases_.push_back({name, begun_ - received_, at - begun_});
    begun_ = at;
  }
  [[nodiscard]] std::vector<wire::Phase> take() { return std::move(phases_); }

 private:
  base::TimePoint received_;
  base::TimePoint begun_;
  std::vector<wire::Phase> phases_;
};

/// Of the one disk that an engine may write to, where its cache is. `bytes_per_s`: 0: no limit.
base::Status limit_disk(const Sandbox& sandbox, const SandboxContents& contents, std::uint64_t bytes_per_s) {
  if (contents.cache_dir.empty() || !sandbox.cgroup() || bytes_per_s == 0) return {};
  const auto disk = disk_number_of(contents.cache_dir);
  if (!disk) return {};
  THAW_ASSIGN_OR_RETURN(const auto host, CgroupHost::detect());
  return limit_writes(*host, sandbox.cgroup()->path(), {*disk, bytes_per_s});
}

/// A sandbox that shows the contents and holds to the limits. `clock` gets "sandbox" and "mount".
base::Result<std::unique_ptr<Sandbox>> furnished_sandbox(const wire::StartInstance& command, const SandboxContents& contents,
                                                         std::uint64_t disk_write_bytes_per_s, Sandboxes& sandboxes, SandboxMaker& maker,
                                                         PhaseClock& clock) {
  // Device files cannot be added later, so such a sandbox is made for its instance.
  // Nor can a root.
  std::unique_ptr<Sandbox> sandbox = contents.devices.empty() && contents.root_layers.empty() ? sandboxes.take(command.model) : nullptr;
  if (sandbox) {
    clock.finish("sandbox");
    auto exposed = sandbox->expose(contents);
    if (!exposed.ok()) {
      spdlog::warn("instance {}: {}; making a sandbox for it instead", command.instance.value(), exposed.error().message);
      sandbox.reset();
    }
  }
  if (!sandbox) {
    THAW_ASSIGN_OR_RETURN(sandbox, maker.make(command.instance, contents));
    clock.finish("sandbox");
  }
  THAW_RETURN_IF_ERROR(sandbox->limit(limits_for(command.model, sandboxes.kind_for(command.model))));
  THAW_RETURN_IF_ERROR(limit_disk(*sandbox, contents, disk_write_bytes_per_s));
  clock.finish("mount");
  return sandbox;
}

base::Status wait_ready(const spec::ModelSpec& model, const std::string& socket_path, base::TimePoint deadline, StartOwner& owner) {
  const base::TimePoint begun = now();
  for (;;) {
    if (owner.wait(probe_pause(now() - begun))) return ended_error();
    const base::Duration left = deadline - now();
    if (left <= base::Duration::zero())
      return base::Error{base::ErrorKind::timeout, "the engine was not ready by the start deadline; raise spec.startDeadline or see the log"};
    THAW_ASSIGN_OR_RETURN(const Readiness readiness, probe_model(model, socket_path, std::min<base::Duration>(kProbeTimeout, left)));
    if (readiness == Readiness::yes) return {};
    if (readiness == Readiness::failed)
      return base::Error{base::ErrorKind::internal, "the engine answers its health check with an error that waiting does not mend"};
  }
}

/// llama.cpp compiles nothing but CUDA's kernels.
bool compiles(const spec::ModelSpec& model) {
  return model.engine != spec::EngineKind::llama_cpp || model.resources.device == spec::DeviceKind::cuda;
}

/// The directory for what the engine compiles. Without one it compiles anew, and that is all.
std::shared_ptr<CompileCaches::Lease> lease_cache(const wire::StartInstance& command, const SandboxMaker& maker, CompileCaches* caches) {
  const spec::ModelSpec& model = command.model;
  if (caches == nullptr || !compiles(model) || maker.cache_view("/").empty()) return nullptr;
  auto leased = caches->lease({command.tenant, base::model_of(model.name), model.engine, model.resources.device});
  if (leased.ok()) return std::move(leased).value();
  spdlog::warn("{} starts without its compile cache: {}", model.name.str(), leased.error().message);
  return nullptr;
}

base::Result<Restored> restore(const wire::StartInstance& command, base::TimePoint deadline, ImageService* images, StartOwner& owner) {
  if (images == nullptr) return base::Error{base::ErrorKind::unavailable, "this node keeps no images (thaw doctor says why)"};
  const base::Duration left = std::max<base::Duration>(deadline - now(), base::Duration::zero());
  return images->restore(command, {now() + left / 2, owner.stop_token()});
}

/// The root of a model with spec.image, as soon as it is here; null for others.
base::Result<std::shared_ptr<const ImageRoot>> image_root(const wire::StartInstance& command, base::TimePoint deadline, Sandboxes& sandboxes,
                                                          StartOwner& owner) {
  const spec::ModelSpec& model = command.model;
  if (model.image.empty()) return std::shared_ptr<const ImageRoot>();
  if (sandboxes.container_images() == nullptr || sandboxes.kind_for(model) == spec::SandboxKind::none)
    return base::Error{base::ErrorKind::unavailable, "cannot start from a container image: this node has none (thaw doctor says why)"};
  const base::Duration left = std::max<base::Duration>(deadline - now(), base::Duration::zero());
  return sandboxes.container_images()->take(model.image, model.image_digest, left, owner.stop_token());
}

/// The proxy by which the model reaches what it lists, and the variables by which its engine knows. Python's libraries then ask the Internet again.
base::Status open_egress(const wire::StartInstance& command, Sandboxes& sandboxes, Sandbox& sandbox, std::map<std::string, std::string>& env) {
  const spec::ModelSpec& model = command.model;
  if (model.network.egress.empty() || sandboxes.egress() == nullptr) return {};
  if (sandboxes.kind_for(model) == spec::SandboxKind::none) {
    spdlog::warn("{}: without a sandbox its engine has the host's network, and spec.network.egress holds nothing back", model.name.str());
    return {};
  }
  THAW_ASSIGN_OR_RETURN(const Egress::Way way, sandboxes.egress()->open(command, sandbox));
  sandbox.keep(way.lease);
  for (const char* name : {"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"}) env.emplace(name, way.url);
  for (const char* name : {"NO_PROXY", "no_proxy"}) env.emplace(name, fmt::format("localhost,127.0.0.1,::1,{}", kInnerAddress));
  if (!model.env.contains("HF_HUB_OFFLINE")) env.erase("HF_HUB_OFFLINE");
  return {};
}

}  // namespace

base::Result<StartOutcome> carry_out_start(const wire::StartInstance& command, base::TimePoint received, const AgentConfig& config,
                                           Sandboxes& sandboxes, ImageService* images, CompileCaches* caches, StartOwner& owner) {
  const base::TimePoint deadline = received + command.deadline;
  StartOutcome outcome;
  if (!command.image.empty()) {
    owner.opens(weight_files(command.model));
    auto restored = restore(command, deadline, images, owner);
    if (owner.over()) return ended_error();
    if (restored.ok()) {
      outcome.way = wire::Way::restore;
      outcome.phases = std::move(restored->phases);
      THAW_ASSIGN_OR_RETURN([[maybe_unused]] const Sandbox* taken, owner.take_over(std::move(restored->sandbox)));
      return outcome;
    }
    spdlog::warn("instance {} of {}: no restore from image {}, starting it instead: {}", command.instance.value(), command.model.name.str(),
                 command.image.str(), restored.error().message);
    outcome.fell_back = restored.error().message;
  }
  PhaseClock clock(received);
  const auto allowed = spec::sandbox_kind_for(spec::trust_of(command.tenant), command.model, {config.settings.sandbox, config.settings.tenant_sandbox});
  if (!allowed.ok()) return allowed.error();
  THAW_ASSIGN_OR_RETURN(SandboxMaker * maker, sandboxes.maker_for(command.model));
  THAW_ASSIGN_OR_RETURN(const std::shared_ptr<const ImageRoot> root, image_root(command, deadline, sandboxes, owner));
  if (root) clock.finish("image");
  std::string engine;
  if (!root) {
    THAW_ASSIGN_OR_RETURN(engine, find_engine(command.model.engine, command.model, config.engine_paths));
  }
  LaunchPaths paths = maker->view(command.instance);
  if (root) paths.image = &root->config;
  std::shared_ptr<CompileCaches::Lease> cache = lease_cache(command, *maker, caches);
  if (cache) paths.cache_dir = maker->cache_view(cache->directory());
  THAW_ASSIGN_OR_RETURN(EngineLaunch launch, plan_launch(command, engine, paths));
  std::vector<std::string> shown = launch.model_files;
  shown.push_back(launch.engine_dir);
  THAW_RETURN_IF_ERROR(check_shown_paths(shown, config.data_dir, config.settings.secrets_dir));
  if (command.image.empty()) owner.opens(launch.model_files);
  const GrantSettings grants{.cdi_required = config.settings.cdi_required, .cdi_directories = config.settings.cdi_directories, .for_image = root != nullptr};
  THAW_ASSIGN_OR_RETURN(DeviceGrant devices, grant_devices(command.all_devices(), grants));
  if (sandboxes.kind_for(command.model) == spec::SandboxKind::none) devices.nodes.clear();  // it sees all of the host's
  set_device_environment(command.all_devices(), devices, command.model.env, launch.env);
  THAW_ASSIGN_OR_RETURN(std::vector<SecretValue> secrets, read_secrets(command.model, command.tenant, config.settings.secrets_dir));
  SandboxContents contents{launch.model_files, launch.engine_dir, std::move(devices), cache ? cache->directory() : std::string(), std::move(secrets)};
  if (root) {
    contents.root_layers = root->layers;
    contents.working_dir = root->config.working_dir;
  }
  THAW_ASSIGN_OR_RETURN(std::unique_ptr<Sandbox> made, furnished_sandbox(command, contents, config.settings.disk_write_bytes_per_s, sandboxes, *maker, clock));
  if (cache) {
    if (const std::uint32_t uid = made->engine_uid(); uid != 0) THAW_RETURN_IF_ERROR(cache->give_to(uid));
    made->keep(std::move(cache));
  }
  if (root) made->keep(root);
  if (config.settings.seccomp_report) spdlog::info("instance {} of {} is in sandbox {}", command.instance.value(), command.model.name.str(), made->name());
  if (launch.tcp) THAW_RETURN_IF_ERROR(made->listen_on_tcp(paths.address, paths.port));

  THAW_RETURN_IF_ERROR(open_egress(command, sandboxes, *made, launch.env));
  THAW_ASSIGN_OR_RETURN(Sandbox * sandbox, owner.take_over(std::move(made)));
  if (owner.over()) return ended_error();
  THAW_RETURN_IF_ERROR(sandbox->run(launch.argv, launch.env));
  clock.finish("exec");
  THAW_RETURN_IF_ERROR(wait_ready(command.model, sandbox->socket_path(), deadline, owner));
  clock.finish("load");
  outcome.phases = clock.take();
  return outcome;
}

}  // namespace thaw::node
