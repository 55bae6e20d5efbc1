#include "sim/fleet.h"

#include <algorithm>
#include <cassert>

#include "control/tenants.h"
#include "sim/random.h"
#include "spec/fields.h"

namespace thaw::sim {

namespace {

using namespace spec;  // NOLINT(google-build-using-namespace): the rows of its tables

constexpr std::uint64_t kMaxBytes = 1ULL << 50;
const std::vector<std::pair<std::string, Priority>> kPriorities{{"low", Priority::low}, {"normal", Priority::normal}, {"high", Priority::high}};

template <typename Item>
Field<Fleet> list(const char* key, std::vector<Item> Fleet::*member, const Table<Item>& table) {
  return {key, [=](const Cursor& at, Fleet& into) {
         if (at.value.kind != YamlValue::Kind::sequence || at.value.items.empty())
           return at.refuse("must be a list with at least one entry");
         for (std::size_t n = 0; n < at.value.items.size(); ++n) {
           Item item;
           read_table(Cursor{at.value.items[n], at.path + "[" + std::to_string(n) + "]", at.problems}, table, item);
           (into.*member).push_back(std::move(item));
         }
       }};
}

template <typename Into>
Field<Into> perhaps(const char* key, std::optional<base::Duration> Into::*member, base::Duration most) {
  return {key, [=](const Cursor& at, Into& into) {
            base::Duration value{};
            if (read_duration(at, base::Duration{}, most, value)) into.*member = value;
          }};
}

Table<NodeShape> node_table() {
  return {whole("count", &NodeShape::count, 1, kMaxFleetDevices),
          required(whole("devices", &NodeShape::devices, 1, 64)),
          required(bytes("deviceMemory", &NodeShape::device_bytes, 1 << 20, kMaxBytes)),
          choice<NodeShape, spec::DeviceKind>("deviceKind", &NodeShape::device_kind,
                                              {{"cuda", spec::DeviceKind::cuda}, {"cpu", spec::DeviceKind::cpu}}),
          bytes("busPerSecond", &NodeShape::bus_bytes_per_s, 1 << 20, kMaxBytes),
          bytes("deviceMemoryPerSecond", &NodeShape::memory_bytes_per_s, 1 << 20, kMaxBytes),
          real("deviceTflops", &NodeShape::device_tflops, 0.001, 1e6),
          required(bytes("hostMemory", &NodeShape::host_bytes, 0, kMaxBytes)),
          bytes("standbyMemory", &NodeShape::standby_bytes, 0, kMaxBytes),
          required(bytes("diskPerSecond", &NodeShape::disk_bytes_per_s, 1 << 20, kMaxBytes)),
          bytes("imageDisk", &NodeShape::image_bytes, 0, kMaxBytes),
          bytes("memoryReturn", &NodeShape::memory_return_bytes, 0, kMaxBytes),
          text("domain", &NodeShape::domain)};
}

Table<Measured> measured_table() {
  const base::Duration none{}, most = std::chrono::hours(1);
  return {perhaps("start", &Measured::start, most),
          perhaps("restore", &Measured::restore, most),
          perhaps("wake", &Measured::wake, most),
          perhaps("freeze", &Measured::freeze, most),
          perhaps("stop", &Measured::stop, most),
          duration("firstAnswer", &Measured::first_answer, none, most),
          perhaps("firstFromDisk", &Measured::first_from_disk, most),
          duration("firstAfterWake", &Measured::first_after_wake, none, most),
          perhaps("soonFromDisk", &Measured::soon_from_disk, most),
          perhaps("soonAfterWake", &Measured::soon_after_wake, most),
          duration("prompt", &Measured::prompt, none, most),
          perhaps("promptToken", &Measured::prompt_token, base::Seconds(10)),
          perhaps("step", &Measured::step, base::Seconds(100))};
}

Table<ModelClass> model_table() {
  return {required(text("name", &ModelClass::name)),
          real("share", &ModelClass::share, 0.0, 1e6),
          required(bytes("weights", &ModelClass::weights_bytes, 1, kMaxBytes)),
          required(bytes("working", &ModelClass::working_bytes, 0, kMaxBytes)),
          bytes("state", &ModelClass::state_bytes, 0, kMaxBytes),
          bytes("resident", &ModelClass::resident_bytes, 0, kMaxBytes),
          bytes("perToken", &ModelClass::bytes_per_token, 0, 1ULL << 30),
          whole("devices", &ModelClass::devices, 1, 64),
          whole("concurrency", &ModelClass::concurrency, 1, 1024),
          whole("maxReplicas", &ModelClass::max_replicas, 1, 1000),
          duration("idleTimeout", &ModelClass::idle_timeout, base::Duration{}, std::chrono::hours(24 * 365)),
          choice<ModelClass, Mode>("standby", &ModelClass::standby,
                                   {{"auto", Mode::automatic}, {"never", Mode::never}, {"always", Mode::always}}),
          choice<ModelClass, Priority>("priority", &ModelClass::priority, kPriorities),
          nested("measured", &ModelClass::measured, measured_table()),
          duration("perSequence", &ModelClass::per_sequence, base::Duration{}, base::Seconds(10))};
}

Table<TenantShape> tenant_table() {
  return {required(text("name", &TenantShape::name)),
          real("share", &TenantShape::share, 0.0, 1e6),
          real("weight", &TenantShape::weight, control::kMinTenantWeight, control::kMaxTenantWeight),
          real("maxDevices", &TenantShape::max_devices, 1e-6, control::kMaxTenantDevices),
          real("maxDeviceSecondsPerDay", &TenantShape::max_device_seconds_per_day, 1e-6, 1e12),
          choice<TenantShape, Priority>("maxPriority", &TenantShape::max_priority, kPriorities)};
}

Table<WayCosts> cost_table() {
  const base::Duration none{}, most = std::chrono::hours(1);
  return {duration("start", &WayCosts::start, none, most),        duration("restore", &WayCosts::restore, none, most),
          duration("wake", &WayCosts::wake, none, most),          duration("freeze", &WayCosts::freeze, none, most),
          duration("stop", &WayCosts::stop, none, most),          duration("request", &WayCosts::request, none, most),
          duration("iteration", &WayCosts::iteration, none, most)};
}

Table<Fleet> fleet_table() {
  Table<Fleet> table = header_fields<Fleet>("Fleet", true);
  table.push_back(text("name", &Fleet::name));
  table.push_back(required(list("nodes", &Fleet::nodes, node_table())));
  table.push_back(required(list("models", &Fleet::models, model_table())));
  table.push_back(list("tenants", &Fleet::tenants, tenant_table()));
  table.push_back(required(nested("costs", &Fleet::costs, cost_table())));
  table.push_back(real("contendedRate", &Fleet::contended_rate, 0.1, 1.0));
  table.push_back(real("risingRate", &Fleet::rising_rate, 0.1, 1.0));
  table.push_back(real("freshShare", &Fleet::fresh_share, 0.01, 0.99));
  table.push_back(real("promptEfficiency", &Fleet::prompt_efficiency, 0.001, 1.0));
  table.push_back(real("decodeEfficiency", &Fleet::decode_efficiency, 0.001, 1.0));
  table.push_back(real("deviceHourPrice", &Fleet::device_hour_price, 0.0, 1e6));
  table.push_back(choice<Fleet, bool>("images", &Fleet::images_ready, {{"ready", true}, {"made", false}}));
  return table;
}

void check(const Cursor& root, const Fleet& fleet) {
  std::uint64_t devices = 0;
  for (const NodeShape& node : fleet.nodes) devices += std::uint64_t{node.count} * node.devices;
  if (devices > kMaxFleetDevices) root.at("nodes").refuse("has more than 100,000 devices");
  const bool rates = std::all_of(fleet.nodes.begin(), fleet.nodes.end(), [](const NodeShape& node) {
    return node.memory_bytes_per_s > 0 && node.device_tflops > 0;
  });
  for (const NodeShape& node : fleet.nodes) {
    if (node.device_kind != DeviceKind::cpu && node.bus_bytes_per_s == 0)
      root.at("nodes").refuse("busPerSecond is missing; only a machine with deviceKind: cpu has none");
    if (node.device_kind == DeviceKind::cpu && node.devices != 1)
      root.at("nodes").refuse("a machine with deviceKind: cpu has one device");
  }
  double shares = 0;
  for (const ModelClass& model : fleet.models) {
    shares += model.share;
    const bool fits = std::any_of(fleet.nodes.begin(), fleet.nodes.end(),
                                  [&](const NodeShape& node) { return node.devices >= model.devices; });
    if (!fits)
      root.at("models").refuse(model.name + ": takes " + std::to_string(model.devices) +
                               " devices, and no node has as many");
    if (!rates && !(model.measured.prompt_token && model.measured.step))
      root.at("models").refuse(model.name +
                               ": measured.promptToken and measured.step are missing; without them every machine needs "
                               "deviceTflops and deviceMemoryPerSecond");
    if (model.state_bytes > model.working_bytes)
      root.at("models").refuse(model.name + ": state is more than working, of which it is a part");
  }
  if (shares <= 0) root.at("models").refuse("has no share above 0");
  double of_tenants = 0;
  for (const TenantShape& tenant : fleet.tenants) {
    of_tenants += tenant.share;
    const auto called = std::count_if(fleet.tenants.begin(), fleet.tenants.end(), [&](const TenantShape& other) { return other.name == tenant.name; });
    if (called > 1) root.at("tenants").refuse(tenant.name + " is there more than once");
  }
  if (!fleet.tenants.empty() && of_tenants <= 0) root.at("tenants").refuse("has no share above 0");
}

}  // namespace

std::uint32_t Fleet::device_count() const {
  std::uint32_t devices = 0;
  for (const NodeShape& node : nodes) devices += node.count * node.devices;
  return devices;
}

const ModelClass& Fleet::class_of(std::uint32_t model) const {
  assert(!models.empty());
  double shares = 0;
  for (const ModelClass& kind : models) shares += kind.share;
  double at = static_cast<double>(mix(model) >> 11) * 0x1.0p-53 * shares;
  for (const ModelClass& kind : models) {
    at -= kind.share;
    if (at < 0) return kind;
  }
  return models.back();
}

const ModelClass& Fleet::class_of(std::uint32_t model, const std::string& called) const {
  const auto named =
      std::find_if(models.begin(), models.end(), [&](const ModelClass& kind) { return kind.name == called; });
  return named != models.end() ? *named : class_of(model);
}

base::Result<Fleet> parse_fleet(std::string_view text, const std::string& file) {
  Problems problems;
  Fleet fleet;
  fleet.name = file;
  if (const auto root = read_yaml(text, problems)) {
    const Cursor at{*root, "", problems};
    if (read_header(at, "Fleet", true)) {
      read_table(at, fleet_table(), fleet);
      if (problems.empty()) check(at, fleet);
    }
  }
  if (!problems.empty()) return problems.to_error(file);
  return fleet;
}

Fleet resized(Fleet fleet, std::uint32_t devices) {
  assert(!fleet.nodes.empty() && devices > 0);
  NodeShape shape = fleet.nodes.front();
  fleet.nodes.clear();
  shape.count = devices / shape.devices;
  const std::uint32_t rest = devices % shape.devices;
  if (shape.count > 0) fleet.nodes.push_back(shape);
  if (rest > 0) {  // a machine that is only partly there has that part of what its devices share
    const auto part = [&](std::uint64_t whole) { return whole / shape.devices * rest; };
    shape.host_bytes = part(shape.host_bytes);
    shape.standby_bytes = part(shape.standby_bytes);
    shape.disk_bytes_per_s = std::max<std::uint64_t>(part(shape.disk_bytes_per_s), 1);
    shape.count = 1;
    shape.devices = rest;
    fleet.nodes.push_back(shape);
  }
  return fleet;
}

}  // namespace thaw::sim
