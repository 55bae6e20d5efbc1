#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/fleet.h"
#include "sim/outcome.h"
#include "sim/trace.h"

/// Whose requests they are, and how each tenant fared.
namespace thaw::sim {

/// Neither owns the fleet nor the trace; both must outlive it.
class Tenants {
 public:
  Tenants(const Fleet& fleet, const Trace& trace);

  /// Those of the trace where it names them, else the fleet's, else "default" alone.
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  [[nodiscard]] std::uint32_t of_request(RequestIndex request) const;
  /// Whose model it is: where the trace has tenants, of whoever asked for it first; else dealt out by the fleet's shares, the same way whatever the policy.
  [[nodiscard]] std::uint32_t of_model(ModelIndex model) const { return owners_[model]; }
  /// What the fleet says of one; null: nothing.
  [[nodiscard]] const TenantShape* shape_of(std::uint32_t tenant) const;
  /// As it counts: what it asked for as far as its tenant may, else its model's.
  [[nodiscard]] spec::Priority priority_of(RequestIndex request) const;

 private:
  const Fleet& fleet_;
  const Trace& trace_;
  std::vector<std::string> names_;
  std::vector<std::uint32_t> owners_;  ///< by model
};

/// Into the outcome: a group for each tenant where there are several, and one for each priority where there are several. `held_device_s`: by tenant.
void summarise_groups(const Tenants& tenants, const std::vector<double>& held_device_s, Outcome& outcome);

}  // namespace thaw::sim
