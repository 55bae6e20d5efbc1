/// Adapters (LoRA) of engines that are told of them while they run.
#include <algorithm>

#include <fmt/format.h>

#include "base/tenancy.h"
#include "node/sandbox/clock.h"
#include "node/supervisor.h"

namespace thaw::node {

namespace {

constexpr auto kUnloadTimeout = base::Seconds(10);

}  // namespace

void Supervisor::submit_load(const wire::LoadAdapter& command) {
  const auto refused = [&](std::string why) { events_.push(wire::AdapterLoaded{command.instance, command.adapter, std::move(why)}); };
  AdapterCall call{.instance = command.instance, .adapter = command.adapter, .deadline = now() + command.deadline};
  call.name = base::public_name(command.adapter);
  call.address = ready_address(command.instance);
  if (call.address.empty()) return refused("the replica is not up");
  spec::ModelSpec model;
  {
    const std::lock_guard lock(mutex_);
    const auto found = instances_.find(command.instance);
    if (found == instances_.end()) return refused("the replica is not up");
    model = found->second->command.model;
  }
  const auto adapter = std::find_if(model.adapters.begin(), model.adapters.end(), [&](const spec::Adapter& one) { return one.name == call.name; });
  call.api = lora_api_of(model);
  if (adapter == model.adapters.end() || call.api == LoraApi::none) return refused("the replica was started without it");
  const auto maker = sandboxes_.maker_for(model);
  if (!maker.ok()) return refused(maker.error().message);
  call.path = seen_adapter((*maker)->view(command.instance), *adapter);
  adapters_.submit(std::move(call));
}

void Supervisor::submit_unload(const wire::UnloadAdapter& command) {
  AdapterCall call{.instance = command.instance, .adapter = command.adapter, .deadline = now() + kUnloadTimeout};
  call.name = base::public_name(command.adapter);
  call.address = ready_address(command.instance);
  if (call.address.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    const auto found = instances_.find(command.instance);
    if (found == instances_.end()) return;
    call.api = lora_api_of(found->second->command.model);
  }
  if (call.api != LoraApi::none) adapters_.submit(std::move(call));
}

}  // namespace thaw::node
