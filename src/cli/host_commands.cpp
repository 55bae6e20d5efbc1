#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/doctor_disks.h"
#include "cli/files.h"
#include "cli/json.h"
#include "spec/server_config.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;
using node::Finding;

constexpr std::size_t kMaxConfigBytes = 1 << 20;

struct DoctorFlags {
  std::string config_path;
  std::optional<std::string> data_dir;
  bool disks = false;
  bool security = false;
  std::vector<std::string> paths;  ///< --path: what else to measure
};

const char* to_string(Finding::Level level) {
  switch (level) {
    case Finding::Level::ok:
      return "ok";
    case Finding::Level::note:
      return "note";
    case Finding::Level::warning:
      return "warning";
    case Finding::Level::failure:
      return "failure";
  }
  return "failure";
}

Style style_of(Finding::Level level) {
  switch (level) {
    case Finding::Level::ok:
      return Style::green;
    case Finding::Level::note:
      return Style::dim;
    case Finding::Level::warning:
      return Style::yellow;
    case Finding::Level::failure:
      return Style::red;
  }
  return Style::red;
}

/// The node as `thaw serve` would set it up with the same configuration file.
base::Result<node::AgentConfig> agent_config(const DoctorFlags& flags) {
  spec::ServerConfig config;
  if (!flags.config_path.empty()) {
    THAW_ASSIGN_OR_RETURN(const std::string text, read_text_file(flags.config_path, kMaxConfigBytes));
    THAW_ASSIGN_OR_RETURN(config, spec::parse_server_config(text, flags.config_path, config));
  }
  node::AgentConfig agent;
  agent.node = base::NodeName("local");
  agent.data_dir = flags.data_dir.value_or(config.data_dir);
  std::error_code error;
  agent.init_path = (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "thaw-init").string();
  agent.settings = config.node;
  agent.cpu_memory_bytes = config.cpu_memory_bytes;
  agent.cuda_reserve_bytes = config.cuda_reserve_bytes;
  agent.engine_paths = config.engine_paths;
  return agent;
}

/// Whether the CLI reaches a server. That none runs is no fault of the host's.
Finding examine_server(const Context& context) {
  Finding finding{"server", Finding::Level::ok, "", ""};
  const auto body = context.call({"GET", "/admin/v1/status", ""});
  if (!body.ok()) {
    const bool absent = body.error().kind == base::ErrorKind::unavailable;
    finding.level = absent ? Finding::Level::note : Finding::Level::warning;
    finding.text = body.error().message;
    return finding;
  }
  const auto status = parse_object(*body, "the server");
  if (!status.ok()) return {"server", Finding::Level::warning, status.error().message, "set THAW_URL"};
  const auto uptime = base::Millis(static_cast<std::int64_t>(number_of(*status, "uptime_ms").value_or(0)));
  finding.text = fmt::format("thaw {} answers, process {}, up {}, sandbox {}{}", text_of(*status, "version"),
                             count_of(*status, "pid"), format_age(uptime), text_of(*status, "sandbox"),
                             flag_of(*status, "dev") ? ", --dev: no keys asked for" : "");
  return finding;
}

void print_findings(const std::vector<Finding>& findings, const Context& context) {
  std::size_t width = 0;
  for (const Finding& finding : findings) width = std::max(width, display_width(finding.topic));
  for (const Finding& finding : findings) {
    context.out << styled(fmt::format("{:<7}", to_string(finding.level)), style_of(finding.level),
                          context.terminal.colours)
                << fmt::format("  {:<{}}  {}\n", finding.topic, width, finding.text);
    if (!finding.remedy.empty()) context.out << fmt::format("{:<{}}  -> {}\n", "", 9 + width, finding.remedy);
  }
}

void print_findings_json(const std::vector<Finding>& findings, bool ok, const Context& context) {
  json::array array;
  for (const Finding& finding : findings)
    array.push_back(json::object{{"topic", finding.topic},
                                 {"level", to_string(finding.level)},
                                 {"text", finding.text},
                                 {"remedy", finding.remedy}});
  context.out << json::serialize(json::object{{"ok", ok}, {"findings", std::move(array)}}) << '\n';
}

int examine(Context& context, const DoctorFlags& flags) {
  const auto config = agent_config(flags);
  if (!config.ok()) return context.fail(config.error());
  if (flags.disks) return measure_disks(context, *config, flags.paths);
  std::vector<Finding> findings = flags.security ? node::examine_security(*config) : context.examine_host(*config, deployed_files(context));
  if (!flags.security) findings.push_back(examine_server(context));
  const bool ok = std::none_of(findings.begin(), findings.end(),
                               [](const Finding& finding) { return finding.level == Finding::Level::failure; });
  if (context.json) {
    print_findings_json(findings, ok, context);
  } else {
    print_findings(findings, context);
  }
  return ok ? kExitOk : kExitFailure;
}

int print_version(Context& context) {
  if (context.json) {
    context.out << json::serialize(json::object{{"version", base::kVersion}}) << '\n';
  } else {
    context.out << "thaw " << base::kVersion << '\n';
  }
  return kExitOk;
}

}  // namespace

void add_host_commands(Commands& commands) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* doctor =
      commands.add("doctor", "Say what works on this host, what does not, and why", "An object with ok and findings",
                   {"thaw doctor", "thaw doctor --data-dir ./state --json", "thaw doctor --disks --path /srv/models"},
                   [flags](Context& context) { return examine(context, *flags); });
  doctor->add_option("--config", flags->config_path, "As for `thaw serve`")
      ->type_name("FILE")
      ->check(CLI::Validator(CLI::ExistingFile).description(""));
  doctor->add_option("--data-dir", flags->data_dir, "As for `thaw serve`")->type_name("DIR");
  CLI::Option* const disks = doctor->add_flag(
      "--disks", flags->disks, "Measure how the disks of the data directory and of models are read best, some 3 s each, and remember it");
  doctor->add_flag("--security", flags->security, "What makes the walls around engines thinner than they could be")->excludes(disks);
  doctor->add_option("--path", flags->paths, "With --disks: also the disk of this file or directory")->type_name("PATH")->needs(disks);

  commands.add("version", "Print the version", "An object with version", {"thaw version"}, print_version);
}

}  // namespace thaw::cli
