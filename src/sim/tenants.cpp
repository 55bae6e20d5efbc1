#include "sim/tenants.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/tenancy.h"
#include "sim/random.h"

namespace thaw::sim {

namespace {

constexpr std::uint64_t kOwners = 0x7e4a47;  ///< which tenant a model is of does not hang together with its kind

std::uint32_t dealt(const std::vector<TenantShape>& shapes, ModelIndex model) {
  double shares = 0;
  for (const TenantShape& shape : shapes) shares += shape.share;
  double at = static_cast<double>(mix(mix(kOwners) + model) >> 11) * 0x1.0p-53 * shares;
  for (std::uint32_t n = 0; n < shapes.size(); ++n) {
    at -= shapes[n].share;
    if (at < 0) return n;
  }
  return static_cast<std::uint32_t>(shapes.size() - 1);
}

}  // namespace

Tenants::Tenants(const Fleet& fleet, const Trace& trace) : fleet_(fleet), trace_(trace), owners_(trace.models.size(), 0) {
  if (!trace.tenants.empty()) {
    names_ = trace.tenants;
    constexpr auto kNobody = std::numeric_limits<std::uint32_t>::max();
    std::fill(owners_.begin(), owners_.end(), kNobody);
    for (const TraceRequest& request : trace.requests) {
      if (owners_[request.model] == kNobody) owners_[request.model] = request.tenant;
    }
    std::replace(owners_.begin(), owners_.end(), kNobody, 0U);
    return;
  }
  for (const TenantShape& shape : fleet.tenants) names_.push_back(shape.name);
  if (names_.empty()) names_.emplace_back(base::kDefaultTenant);
  if (names_.size() == 1) return;
  for (ModelIndex model = 0; model < owners_.size(); ++model) owners_[model] = dealt(fleet.tenants, model);
}

std::uint32_t Tenants::of_request(RequestIndex request) const {
  const TraceRequest& asked = trace_.requests[request];
  return trace_.tenants.empty() ? owners_[asked.model] : asked.tenant;
}

const TenantShape* Tenants::shape_of(std::uint32_t tenant) const {
  const auto found = std::find_if(fleet_.tenants.begin(), fleet_.tenants.end(), [&](const TenantShape& shape) { return shape.name == names_[tenant]; });
  return found == fleet_.tenants.end() ? nullptr : &*found;
}

spec::Priority Tenants::priority_of(RequestIndex request) const {
  const TraceRequest& asked = trace_.requests[request];
  if (!asked.priority) return fleet_.class_of(asked.model, trace_.models[asked.model]).priority;
  const TenantShape* const shape = shape_of(of_request(request));
  return shape == nullptr ? *asked.priority : std::min(*asked.priority, shape->max_priority);
}

void summarise_groups(const Tenants& tenants, const std::vector<double>& held_device_s, Outcome& outcome) {
  constexpr std::array kLevels{spec::Priority::low, spec::Priority::normal, spec::Priority::high};
  std::vector<std::vector<float>> by_tenant(tenants.names().size()), by_level(kLevels.size());
  for (RequestIndex request = 0; request < outcome.delay_s.size(); ++request) {
    by_tenant[tenants.of_request(request)].push_back(outcome.delay_s[request]);
    by_level[static_cast<std::size_t>(tenants.priority_of(request))].push_back(outcome.delay_s[request]);
  }
  if (by_tenant.size() > 1) {
    for (std::size_t n = 0; n < by_tenant.size(); ++n) {
      outcome.tenants.push_back({tenants.names()[n], summarise(std::move(by_tenant[n])), held_device_s[n]});
    }
  }
  const auto asked = std::count_if(by_level.begin(), by_level.end(), [](const auto& delays) { return !delays.empty(); });
  if (asked <= 1) return;
  for (const spec::Priority level : kLevels) {
    auto& delays = by_level[static_cast<std::size_t>(level)];
    if (!delays.empty()) outcome.priorities.push_back({spec::to_string(level), summarise(std::move(delays)), 0});
  }
}

}  // namespace thaw::sim
