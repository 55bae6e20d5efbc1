#include "controller/adapters.h"

#include <algorithm>
#include <utility>

#include "base/revision.h"
#include "base/tenancy.h"

namespace thaw::controller {

namespace {

std::uint64_t bytes_of(const std::vector<spec::Adapter>& adapters) {
  std::uint64_t bytes = 0;
  for (const spec::Adapter& adapter : adapters) bytes += adapter.bytes;
  return bytes;
}

}  // namespace

base::ModelName base_of(const spec::ModelSpec& adapter) {
  return base::qualified(base::tenant_part(adapter.name), adapter.base_model);
}

std::vector<spec::Adapter> adapters_of(const Controller& controller, const base::ModelName& base) {
  std::vector<spec::Adapter> adapters;
  for (const base::ModelName& name : controller.adapters(base)) {
    const ModelEntry& entry = *controller.find(name);
    adapters.push_back({base::public_model(name), entry.spec.source.path, entry.weights_bytes});
  }
  return adapters;
}

void take_adapters(ModelEntry& entry, std::vector<spec::Adapter> adapters) {
  auto& memory = entry.spec.resources.device_memory_bytes;
  if (entry.memory_estimated && memory)
    *memory = *memory - std::min(*memory, bytes_of(entry.spec.adapters)) + bytes_of(adapters);
  entry.spec.adapters = std::move(adapters);
}

std::string names_of_adapters(const Controller& controller, const base::ModelName& base) {
  std::string names;
  for (const spec::Adapter& adapter : adapters_of(controller, base))
    names += (names.empty() ? "" : ", ") + adapter.name;
  return names;
}

}  // namespace thaw::controller
