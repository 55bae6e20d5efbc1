#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "spec/model_spec.h"

namespace thaw::spec {

inline constexpr const char* kTenantNameRule = "use 1 to 31 of a-z, 0-9 and \"-\", a letter or digit first and last";

/// What a tenant may have and take; absent: without a limit. Of one gateway, which is all there is in this version.
struct Quotas {
  std::optional<std::uint32_t> models;  ///< deployed at once, 0 to 100,000
  std::optional<double> devices;        ///< that its replicas hold at once, in whole ones: 0.01 to 100,000
  std::optional<std::uint64_t>
      device_seconds_per_day;                 ///< held by its replicas, in whole ones, from midnight UTC on; 1 to 10^12
  std::optional<double> requests_per_second;  ///< 0.01 to 1,000,000; as many may come at once as in a second
  std::optional<std::uint64_t> tokens_per_minute;  ///< of prompts and answers, charged when an answer ends; 1 to 10^12
  std::optional<std::uint32_t> concurrent_requests;  ///< waiting and running, 1 to 1,000,000
  std::optional<std::uint64_t> disk_bytes;           ///< of its models' images on all nodes

  friend bool operator==(const Quotas&, const Quotas&) = default;
};

/// What an operator declares about a tenant.
struct TenantSpec {
  base::TenantName name;  ///< 1 to 31 of [a-z0-9-], a letter or digit at both ends
  double weight = 1;      ///< its share where tenants wait for the same devices, 0.01 to 100
  Quotas quotas;
  /// The highest that its requests may ask for, and its own keys may deploy models with. Absent: normal; for the default tenant, high.
  std::optional<Priority> max_priority;
  /// Absolute directories on the node below which its models' files and engines lie, 64 at most. None: it deploys
  /// nothing by itself. Not for the default tenant, which is the operator's own.
  std::vector<std::string> sources;

  friend bool operator==(const TenantSpec&, const TenantSpec&) = default;
};

/// Same strictness, bounds and form of errors as parse_model.
base::Result<TenantSpec> parse_tenant(std::string_view text, const std::string& file);
std::string to_json(const TenantSpec& spec);

}  // namespace thaw::spec
