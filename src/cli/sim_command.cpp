#include <fcntl.h>

#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/table.h"
#include "sim/experiment.h"
#include "sim/generate.h"
#include "sim/policy.h"
#include "sim/report.h"

namespace thaw::cli {
namespace {

constexpr std::size_t kMaxTraceBytes = std::size_t{4} << 30;
constexpr std::size_t kMaxFleetBytes = 1U << 20;

struct SimFlags {
  std::string trace, synthetic, fleet, report, requests;
  std::string policies = "all";
  sim::Columns columns;
  std::string spread;
  std::uint64_t seed = 1;
  std::uint32_t devices = 0;
  bool smallest = false;
  std::uint32_t max_devices = 512;
  bool list = false;
  std::string print_fleet;
};

std::string seconds(double s) {
  return s < 10 ? fmt::format("{:.2f}s", s) : fmt::format("{:.0f}s", s);
}

/// Each policy's tenants, or priorities, where there are several.
void print_groups(const sim::Experiment& e, std::vector<sim::GroupOutcome> sim::Outcome::*member, const char* title, Context& context) {
  using Align = Table::Align;
  std::vector<Table::Column> columns{{"POLICY", Align::left}, {title, Align::left}};
  for (const char* header : {"REQUESTS", "REFUSED", "P50", "P99", "<5s", "DEV-HOURS"}) columns.push_back({header, Align::right});
  Table table(columns);
  bool any = false;
  for (const sim::PolicyResult& r : e.results) {
    for (const sim::GroupOutcome& g : r.outcome.*member) {
      const sim::Delays& d = g.delays;
      any = true;
      table.add({{r.outcome.policy}, {g.name}, {std::to_string(d.requests)}, {std::to_string(d.requests - d.answered)}, {seconds(d.p50_s)},
                 {seconds(d.p99_s)}, {fmt::format("{:.2f}%", d.within_5s * 100)},
                 {g.held_device_s > 0 ? fmt::format("{:.2f}", g.held_device_s / 3600) : ""}});
    }
  }
  if (any) context.out << '\n' << table.render(context.terminal.colours);
}

void print_table(const sim::Experiment& e, Context& context) {
  using Align = Table::Align;
  std::vector<Table::Column> columns{{"POLICY", Align::left}};
  for (const char* header : {"P50", "P99", "<5s", "REFUSED", "COLD", "DEV-HOURS", "VS BOUND", "USED", "PEAK", "$/1000"})
    columns.push_back({header, Align::right});
  if (e.looked_for_smallest)
    columns.insert(columns.end(), {{"FLEET 99%", Align::right}, {"DEV-HOURS THERE", Align::right}});
  Table table(columns);
  for (const sim::PolicyResult& r : e.results) {
    const sim::Outcome& o = r.outcome;
    const bool good = o.within_5s >= sim::kAttainment;
    std::vector<Table::Cell> cells{
        {o.policy},
        {seconds(o.p50_s)},
        {seconds(o.p99_s)},
        {fmt::format("{:.2f}%", o.within_5s * 100), good ? Style::green : Style::plain},
        {std::to_string(o.refused)},
        {std::to_string(o.cold)},
        {fmt::format("{:.2f}", o.device_hours())},
        {fmt::format("{:.2f}", e.bound.held_device_s > 0 ? o.held_device_s / e.bound.held_device_s : 0)},
        {fmt::format("{:.2f}", o.used_device_hours())},
        {std::to_string(o.peak_devices)},
        {fmt::format("{:.3f}", o.cost_per_1000(e.device_hour_price))}};
    if (e.looked_for_smallest) {
      cells.push_back({r.smallest_devices > 0 ? std::to_string(r.smallest_devices) : "none"});
      cells.push_back({r.smallest_devices > 0 ? fmt::format("{:.2f}", r.smallest_device_hours) : ""});
    }
    table.add(std::move(cells));
  }
  context.out << fmt::format(
                     "{}: {} requests, {} models, {}{}\n", e.trace, e.requests, e.models, base::format_duration(e.span),
                     e.skipped > 0 ? fmt::format(" ({} rows without a model or a duration left out)", e.skipped) : "")
              << fmt::format("{}: {} devices; judged by {}; lower bound {:.2f} device-hours\n\n", e.fleet, e.devices,
                             e.durations ? "start delay" : "time to first token", e.bound.device_hours())
              << table.render(context.terminal.colours);
  print_groups(e, &sim::Outcome::tenants, "TENANT", context);
  print_groups(e, &sim::Outcome::priorities, "PRIORITY", context);
  for (const sim::PolicyResult& r : e.results) {
    for (const std::string& violation : r.outcome.violations)
      context.err << r.outcome.policy << ": " << violation << '\n';
  }
}

int list_policies(Context& context) {
  for (const sim::PolicyInfo& info : sim::policies()) {
    context.out << info.name << ": " << info.describes << '\n';
    for (const std::string& source : info.sources) context.out << "    " << source << '\n';
  }
  return kExitOk;
}

base::Result<sim::Trace> load_trace(const SimFlags& flags) {
  if (!flags.synthetic.empty()) {
    THAW_ASSIGN_OR_RETURN(const sim::Synthetic synthetic, sim::parse_synthetic(flags.synthetic, flags.seed));
    return sim::generate(synthetic);
  }
  if (flags.trace.empty())
    return base::Error{base::ErrorKind::invalid,
                       "no trace; give one with --trace FILE.csv or make one up with --synthetic"};
  THAW_ASSIGN_OR_RETURN(const std::string text, read_text_file(flags.trace, kMaxTraceBytes));
  THAW_ASSIGN_OR_RETURN(sim::Trace trace, sim::read_trace(text, flags.trace, flags.columns));
  if (flags.spread.empty()) return trace;
  THAW_ASSIGN_OR_RETURN(const sim::Spread spread, sim::parse_spread(flags.spread, flags.seed));
  return sim::spread(std::move(trace), spread.models, spread.exponent, spread.seed);
}

base::Result<sim::Fleet> load_fleet(const SimFlags& flags, bool durations) {
  if (flags.fleet.empty()) return sim::default_fleet(durations);
  THAW_ASSIGN_OR_RETURN(const std::string text, read_text_file(flags.fleet, kMaxFleetBytes));
  return sim::parse_fleet(text, flags.fleet);
}

base::Status write_file(const std::string& path, const std::string& text) {
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (file.get() < 0) return base::errno_error("cannot write " + path, errno);
  return write_all(file.get(), text, path);
}

int simulate(Context& context, const SimFlags& flags) {
  if (flags.list) return list_policies(context);
  if (!flags.print_fleet.empty()) {
    context.out << sim::default_fleet_yaml(flags.print_fleet == "durations");
    return kExitOk;
  }
  auto policies = sim::parse_policies(flags.policies);
  if (!policies.ok()) return context.fail(policies.error());
  const auto trace = load_trace(flags);
  if (!trace.ok()) return context.fail(trace.error());
  auto fleet = load_fleet(flags, trace->durations);
  if (!fleet.ok()) return context.fail(fleet.error());
  if (flags.devices > 0) *fleet = sim::resized(std::move(*fleet), flags.devices);

  const sim::ExperimentOptions options{std::move(*policies), flags.smallest, flags.max_devices};
  const sim::Experiment experiment = sim::run_experiment(*fleet, *trace, options, [&](const std::string& what) {
    if (context.terminal.err_is_terminal) context.err << "simulating " << what << '\n';
  });
  if (!flags.report.empty()) {
    if (const auto status = write_file(flags.report, sim::to_html(experiment)); !status.ok())
      return context.fail(status.error());
  }
  if (!flags.requests.empty()) {
    if (const auto status = write_file(flags.requests, sim::to_csv(*trace, experiment)); !status.ok())
      return context.fail(status.error());
  }
  if (context.json)
    context.out << sim::to_json(experiment) << '\n';
  else
    print_table(experiment, context);
  for (const sim::PolicyResult& result : experiment.results) {
    if (result.outcome.violated > 0)
      return context.fail(
          {base::ErrorKind::internal, result.outcome.policy + " did what no policy may do; the numbers mean nothing"});
  }
  return kExitOk;
}

}  // namespace

void add_sim_command(Commands& commands) {
  auto flags = std::make_shared<SimFlags>();
  CLI::App* command = commands.add(
      "sim", "Replay a trace of requests on a simulated fleet, under thaw's own decisions and under others'",
      "The numbers as one object",
      {"thaw sim --trace AzureLLMInferenceTrace_code.csv --spread 100:zipf:7 --policy all",
       "thaw sim --trace requests.csv --fleet fleet.yaml "
       "--policy thaw,knative --report out.html"},
      [flags](Context& context) { return simulate(context, *flags); });
  command->add_option("--trace", flags->trace, "CSV of requests; its first line names the columns");
  command
      ->add_option(
          "--synthetic", flags->synthetic,
          "Requests made up instead: "
          "requests=100000,models=1000,span=24h,cv=4,zipf=1.1,diurnal=0.5,input=1000,output=200; each may be left out")
      ->excludes("--trace");
  command->add_option("--time-col", flags->columns.time,
                      "Column of arrivals: seconds or dates; the rest is found by usual names, too");
  command->add_option("--model-col", flags->columns.model, "Column of models' names");
  command->add_option("--input-col", flags->columns.input, "Column of prompts' tokens");
  command->add_option("--output-col", flags->columns.output, "Column of answers' tokens");
  command->add_option("--duration-col", flags->columns.duration,
                      "Column of seconds that a request takes, instead of tokens");
  command->add_option("--tenant-col", flags->columns.tenant, "Column of tenants' names; what they may have is the fleet's to say (tenants)");
  command->add_option("--priority-col", flags->columns.priority, "Column of low, normal or high; empty: the model's");
  command->add_option("--spread", flags->spread,
                      "Deal the requests out to models: N:zipf:SEED, or N:zipf(EXPONENT):SEED");
  command->add_option("--fleet", flags->fleet, "Machines, models and costs as YAML; see --print-fleet");
  command->add_option("--devices", flags->devices, "So many devices of the fleet's first kind instead")
      ->check(CLI::Range(1U, sim::kMaxFleetDevices));
  command->add_option("--policy", flags->policies, "Names with commas between, or all")->capture_default_str();
  command->add_flag("--smallest-fleet", flags->smallest,
                    "Also look for the fewest devices with which 99% of the requests begin within 5 s");
  command->add_option("--max-devices", flags->max_devices, "Where that search ends")
      ->check(CLI::Range(1U, sim::kMaxFleetDevices))
      ->capture_default_str();
  command->add_option("--report", flags->report, "Write an HTML page with plots there");
  command->add_option("--requests", flags->requests, "Write every request there as CSV: by what it was served, and its delay");
  command->add_option("--seed", flags->seed, "Of what is drawn where no other seed is given")->capture_default_str();
  command->add_flag("--list-policies", flags->list, "What each policy stands for, with sources");
  command
      ->add_option("--print-fleet", flags->print_fleet, "Print the default fleet with its sources: tokens or durations")
      ->check(CLI::IsMember({"tokens", "durations"}));
}

}  // namespace thaw::cli
