// `thaw calibrate`: from a running server to a fleet file for `thaw sim`.
#include <algorithm>
#include <map>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/prober.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;

// Where nothing was measured, as in the default fleet (sim/default_fleet.cpp).
constexpr std::uint64_t kBus_bytes_per_s = 24'000'000'000;
constexpr std::uint64_t kDisk_bytes_per_s = 1'000'000'000;

struct CalibrateFlags {
  std::vector<std::string> models;
  std::uint32_t rounds = 3;
  std::uint32_t machines = 1;
  std::uint32_t pause_s = 8;
};

base::Result<std::vector<std::string>> deployed(const Client& client) {
  THAW_ASSIGN_OR_RETURN(const HttpResponse response, client.send({"GET", "/admin/v1/models", ""}));
  THAW_ASSIGN_OR_RETURN(const json::object answer, parse_object(response.body, "the server"));
  std::vector<std::string> names;
  for (const json::object* model : objects_of(answer, "models")) names.push_back(text_of(*model, "name"));
  if (names.empty())
    return base::Error{base::ErrorKind::not_found,
                       "the server has no models to measure; deploy some with `thaw deploy`"};
  return names;
}

/// The machine as the server's books have it: its GPUs where there are any, else its CPU.
base::Result<sim::NodeShape> describe_machine(const Client& client) {
  THAW_ASSIGN_OR_RETURN(const HttpResponse response, client.send({"GET", "/admin/v1/instances", ""}));
  THAW_ASSIGN_OR_RETURN(const json::object answer, parse_object(response.body, "the server"));
  sim::NodeShape shape;
  shape.devices = 0;
  const auto devices = objects_of(answer, "devices");
  const auto is = [](const json::object* device, const char* kind) { return text_of(*device, "kind") == kind; };
  const bool gpus = std::any_of(devices.begin(), devices.end(), [&](const auto* device) { return is(device, "cuda"); });
  shape.device_kind = gpus ? spec::DeviceKind::cuda : spec::DeviceKind::cpu;
  for (const json::object* device : devices) {
    if (!is(device, gpus ? "cuda" : "cpu")) continue;
    ++shape.devices;
    const std::uint64_t bytes = count_of(*device, "budget_bytes");
    shape.device_bytes = shape.devices == 1 ? bytes : std::min(shape.device_bytes, bytes);
    if (!gpus) shape.host_bytes = count_of(*device, "total_bytes");
  }
  if (shape.devices == 0)
    return base::Error{base::ErrorKind::not_found, "the server knows no device; `thaw doctor` says why"};
  if (!gpus) {
    shape.memory_return_bytes = sim::kMemoryReturn_bytes;
    return shape;
  }
  shape.bus_bytes_per_s = kBus_bytes_per_s;
  for (const json::object* node : objects_of(answer, "nodes")) {
    shape.host_bytes = shape.standby_bytes = count_of(*node, "host_budget_bytes");
    shape.image_bytes = count_of(*node, "image_budget_bytes");
  }
  return shape;
}

/// What was measured has the bytes' way over the bus in it; a simulation adds that by itself.
void take_bus_away(sim::ModelClass& kind, const sim::NodeShape& shape) {
  if (shape.bus_bytes_per_s == 0) return;
  const auto less = [&](std::optional<base::Duration>& cost, std::uint64_t bytes) {
    const double bus_s = static_cast<double>(bytes) / static_cast<double>(shape.bus_bytes_per_s);
    if (cost) cost = std::max(*cost - base::Duration(static_cast<std::int64_t>(bus_s * 1e9)), base::Duration::zero());
  };
  less(kind.measured.start, kind.weights_bytes);
  less(kind.measured.wake, kind.kept_bytes());
  less(kind.measured.freeze, kind.kept_bytes());
}

/// As many as there is room for at the same time, some at most, each with weights of its own.
std::vector<ProbedModel> several(const std::vector<ProbedModel>& models, std::uint64_t device_bytes) {
  constexpr std::size_t kMost = 4;
  std::vector<ProbedModel> some;
  for (const ProbedModel& model : models) {
    const auto same = [&](const ProbedModel& one) { return one.source == model.source; };
    if (std::any_of(some.begin(), some.end(), same)) continue;
    if (model.kind.device_bytes() > device_bytes || some.size() == kMost) break;
    device_bytes -= model.kind.device_bytes();
    some.push_back(model);
  }
  return some;
}

/// A GPU's replica holds there what it has from the first, and no page cache.
void leave_out_what_only_cpus_have(sim::ModelProbes& probes) {
  probes.short_up.clear();
  probes.soon_from_disk.clear();
  probes.soon_wakes.clear();
}

/// Models that are alike are measured once, and get the same. Round by round over all of them, so that whatever
/// disturbs the machine for some seconds disturbs no more than a few probes of each.
base::Status measure_models(const CalibrateFlags& flags, Prober& prober, std::vector<ProbedModel>& models,
                            sim::Fleet& fleet) {
  struct Group {
    ProbedModel* first;
    sim::ModelProbes probes;
  };
  std::map<std::string, Group> groups;
  std::vector<std::string> order;
  for (ProbedModel& model : models)
    if (groups.try_emplace(model.like, Group{&model, {}}).second) order.push_back(model.like);
  const bool on_cpu = fleet.nodes.front().device_kind == spec::DeviceKind::cpu;
  const bool shares = models.size() > 1 && on_cpu;
  sim::SharingProbes sharing;
  std::vector<sim::RisingProbe> rising;
  for (std::uint32_t round = 0; round < flags.rounds; ++round) {
    for (const std::string& like : order) {
      Group& group = groups.at(like);
      THAW_RETURN_IF_ERROR(prober.measure(*group.first, group.probes));
    }
    if (shares) THAW_RETURN_IF_ERROR(prober.measure_sharing(models[0], models[1], sharing));
    const auto some = several(models, fleet.nodes.front().device_bytes);
    for (const auto weights : {Prober::Weights::just_left, Prober::Weights::on_disk})
      if (shares && some.size() > 1) THAW_RETURN_IF_ERROR(prober.measure_rising(some, weights, rising));
  }
  std::vector<sim::ModelProbes> all;
  for (const std::string& like : order) {
    Group& group = groups.at(like);
    if (!on_cpu) leave_out_what_only_cpus_have(group.probes);
    sim::calibrate(group.first->kind, group.probes);
    take_bus_away(group.first->kind, fleet.nodes.front());
    all.push_back(std::move(group.probes));
  }
  for (ProbedModel& model : models) {
    const sim::ModelClass& like = groups.at(model.like).first->kind;
    model.kind.measured = like.measured;
    model.kind.per_sequence = like.per_sequence;
    model.kind.state_bytes = like.state_bytes;
    model.kind.resident_bytes = like.resident_bytes;
    model.kind.bytes_per_token = like.bytes_per_token;
    fleet.models.push_back(model.kind);
  }
  const double rate = sim::disk_rate(all);
  fleet.nodes.front().disk_bytes_per_s = rate >= (1 << 20) ? static_cast<std::uint64_t>(rate) : kDisk_bytes_per_s;
  sim::calibrate(fleet, sharing, rising);
  return {};
}

base::Result<sim::Fleet> measure(const CalibrateFlags& flags, const Client& client, Prober& prober) {
  sim::Fleet fleet;
  fleet.name = "measured";
  fleet.images_ready = false;
  THAW_ASSIGN_OR_RETURN(sim::NodeShape shape, describe_machine(client));
  shape.count = flags.machines;
  fleet.nodes.push_back(shape);
  THAW_ASSIGN_OR_RETURN(const std::vector<std::string> every, deployed(client));
  std::vector<ProbedModel> models;
  for (const std::string& name : flags.models.empty() ? every : flags.models) {
    THAW_ASSIGN_OR_RETURN(ProbedModel model, prober.describe(name));
    models.push_back(std::move(model));
  }
  for (const std::string& name : every) THAW_RETURN_IF_ERROR(prober.stop(name));
  THAW_RETURN_IF_ERROR(measure_models(flags, prober, models, fleet));
  fleet.costs.request = prober.request_cost();
  return fleet;
}

int calibrate_fleet(Context& context, const CalibrateFlags& flags) {
  const auto client = context.client();
  if (!client.ok()) return context.fail(client.error());
  const Interrupt interrupt;
  Prober prober(*client, interrupt, base::Seconds(flags.pause_s),
                [&](const std::string& what) { context.err << what << std::endl; });
  const auto fleet = measure(flags, *client, prober);
  if (!fleet.ok()) return interrupt.wait_for(base::Duration::zero()) ? kExitInterrupted : context.fail(fleet.error());
  context.out << sim::to_yaml(*fleet);
  return kExitOk;
}

}  // namespace

void add_calibrate_command(Commands& commands) {
  auto flags = std::make_shared<CalibrateFlags>();
  CLI::App* command =
      commands.add("calibrate", "Measure the server's machine and models, and print them as a fleet file for thaw sim",
                   "Nothing else: the fleet is YAML in either case",
                   {"thaw calibrate > fleet.yaml && thaw sim --fleet fleet.yaml --trace requests.csv --policy thaw-5m",
                    "thaw calibrate --machines 2 > two.yaml"},
                   [flags](Context& context) { return calibrate_fleet(context, *flags); });
  command->add_option("MODEL", flags->models, "The models to measure (default: all; those that are alike once)");
  command->add_option("--rounds", flags->rounds, "How often each thing is measured; the median counts")
      ->check(CLI::Range(1U, 100U))
      ->capture_default_str();
  command
      ->add_option(
          "--pause", flags->pause_s,
          "Seconds that weights stay out of memory before they are asked for again: as long as they usually do")
      ->check(CLI::Range(0U, 600U))
      ->capture_default_str();
  command->add_option("--machines", flags->machines, "So many machines like this one")
      ->check(CLI::Range(1U, sim::kMaxFleetDevices))
      ->capture_default_str();
}

}  // namespace thaw::cli
