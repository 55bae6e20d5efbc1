#include <fmt/format.h>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "base/tenancy.h"
#include "spec/fields.h"
#include "spec/json_number.h"
#include "spec/tenant_spec.h"

namespace thaw::spec {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxSources = 64;
constexpr std::uint64_t kMaxCount = 100'000;
constexpr std::uint64_t kMaxConcurrent = 1'000'000;
constexpr std::uint64_t kMaxAmount = 1'000'000'000'000;
constexpr std::uint64_t kMaxDisk = 1ULL << 60;
constexpr double kMinReal = 0.01;
constexpr double kMaxDevices = 100'000;
constexpr double kMaxRate = 1e6;
constexpr double kMinWeight = 0.01;
constexpr double kMaxWeight = 100;

void read_name(const Cursor& at, TenantSpec& into) {
  std::string name;
  if (!read_text(at, name)) return;
  if (base::is_tenant_name(name))
    into.name = base::TenantName(name);
  else
    at.refuse(fmt::format("\"{}\" is no tenant's name; {}", printable(name), kTenantNameRule));
}

/// "none" lifts a limit, as leaving the key out does.
bool is_none(const Cursor& at) {
  return at.value.kind == YamlValue::Kind::scalar && at.value.text == "none";
}

template <typename Number>
Field<Quotas> limit(const char* key, std::optional<Number> Quotas::*member, std::uint64_t min, std::uint64_t max) {
  return {key, [=](const Cursor& at, Quotas& into) {
            std::uint64_t value = 0;
            if (!is_none(at) && read_whole(at, min, max, value)) into.*member = static_cast<Number>(value);
          }};
}

Field<Quotas> limit(const char* key, std::optional<double> Quotas::*member, double max) {
  return {key, [=](const Cursor& at, Quotas& into) {
            double value = 0;
            if (!is_none(at) && read_real(at, kMinReal, max, value)) into.*member = value;
          }};
}

void read_disk(const Cursor& at, Quotas& into) {
  std::uint64_t value = 0;
  if (!is_none(at) && read_bytes(at, 0, kMaxDisk, value)) into.disk_bytes = value;
}

void read_sources(const Cursor& at, TenantSpec& into) {
  read_items(at, {"directories", "[/srv/models/acme]", kMaxSources}, [&into](const Cursor& item) {
    std::string path;
    if (read_path(item, "", path)) into.sources.push_back(std::move(path));
  });
}

Table<TenantSpec> tenant_table() {
  const Table<TenantSpec> metadata{required<TenantSpec>({"name", read_name})};
  const Table<Quotas> quotas{limit("models", &Quotas::models, 0, kMaxCount),
                             limit("devices", &Quotas::devices, kMaxDevices),
                             limit("deviceSecondsPerDay", &Quotas::device_seconds_per_day, 1, kMaxAmount),
                             limit("requestsPerSecond", &Quotas::requests_per_second, kMaxRate),
                             limit("tokensPerMinute", &Quotas::tokens_per_minute, 1, kMaxAmount),
                             limit("concurrentRequests", &Quotas::concurrent_requests, 1, kMaxConcurrent),
                             {"disk", read_disk}};
  const Table<TenantSpec> spec{real("weight", &TenantSpec::weight, kMinWeight, kMaxWeight),
                               nested("quotas", &TenantSpec::quotas, quotas),
                               choice<TenantSpec, std::optional<Priority>>("maxPriority", &TenantSpec::max_priority,
                                                            {{"low", Priority::low}, {"normal", Priority::normal}, {"high", Priority::high}}),
                               {"sources", read_sources}};
  Table<TenantSpec> table = header_fields<TenantSpec>("Tenant", true);
  table.push_back(required(group("metadata", metadata)));
  table.push_back(group("spec", spec));
  return table;
}

json::object quotas_json(const Quotas& quotas) {
  json::object o;
  if (quotas.models) o["models"] = *quotas.models;
  if (quotas.devices) o["devices"] = json_number(*quotas.devices);
  if (quotas.device_seconds_per_day) o["deviceSecondsPerDay"] = *quotas.device_seconds_per_day;
  if (quotas.requests_per_second) o["requestsPerSecond"] = json_number(*quotas.requests_per_second);
  if (quotas.tokens_per_minute) o["tokensPerMinute"] = *quotas.tokens_per_minute;
  if (quotas.concurrent_requests) o["concurrentRequests"] = *quotas.concurrent_requests;
  if (quotas.disk_bytes) o["disk"] = *quotas.disk_bytes;
  return o;
}

}  // namespace

base::Result<TenantSpec> parse_tenant(std::string_view text, const std::string& file) {
  Problems problems;
  TenantSpec spec;
  if (const auto root = read_yaml(text, problems)) {
    const Cursor at{*root, "", problems};
    if (read_header(at, "Tenant", true)) read_table(at, tenant_table(), spec);
    if (problems.empty() && spec.name.str() == base::kDefaultTenant && !spec.sources.empty())
      at.at("spec").refuse(
          "sources are not for the default tenant: it is the operator's own and deploys what it likes");
  }
  if (!problems.empty()) return problems.to_error(file);
  return spec;
}

std::string to_json(const TenantSpec& spec) {
  json::object of{{"weight", json_number(spec.weight)},
                  {"quotas", quotas_json(spec.quotas)},
                  {"sources", json::array(spec.sources.begin(), spec.sources.end())}};
  if (spec.max_priority) of["maxPriority"] = to_string(*spec.max_priority);
  return json::serialize(json::object{
      {"apiVersion", "thaw/v1"}, {"kind", "Tenant"}, {"metadata", {{"name", spec.name.str()}}}, {"spec", std::move(of)}});
}

}  // namespace thaw::spec
