#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/doctor_disks.h"
#include "cli/doctor_security.h"
#include "cli/files.h"
#include "cli/install_paths.h"
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
  agent.init_path = find_init().value_or("");
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
    finding.remedy = absent ? "thaw serve, or set THAW_URL to where one runs" : "set THAW_API_KEY to a key of that server, or THAW_URL to another server";
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

int print_result(Context& context, const std::vector<Finding>& findings) {
  const bool ok = std::none_of(findings.begin(), findings.end(),
                               [](const Finding& finding) { return finding.level == Finding::Level::failure; });
  if (context.json) {
    print_findings_json(findings, ok, context);
  } else {
    print_findings(findings, context);
  }
  return ok ? kExitOk : kExitFailure;
}

/// A server that answers anybody on this machine; a running one is asked, its flag stands in no file.
Finding examine_keys(const Context& context) {
  const auto body = context.call({"GET", "/admin/v1/status", ""});
  const auto status = body.ok() ? parse_object(*body, "the server") : base::Result<json::object>(body.error());
  if (!status.ok()) return {"keys", Finding::Level::note, "no server answers here, so that it is not known whether one asks for keys", "start it, or set THAW_URL to where it is"};
  if (flag_of(*status, "dev"))
    return {"keys", Finding::Level::failure, "the server runs with --dev: everybody on this machine can use and administer it", "start it without --dev"};
  return {"keys", Finding::Level::ok, "the server asks for keys", ""};
}

int report_security(Context& context, const DoctorFlags& flags) {
  spec::ServerConfig config;
  if (!flags.config_path.empty()) {
    const auto text = read_text_file(flags.config_path, kMaxConfigBytes);
    if (!text.ok()) return context.fail(text.error());
    const auto parsed = spec::parse_server_config(*text, flags.config_path, config);
    if (!parsed.ok()) return context.fail(parsed.error());
    config = *parsed;
  }
  config.data_dir = flags.data_dir.value_or(config.data_dir);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  std::vector<Finding> findings = examine_security(config, flags.config_path, std::chrono::duration_cast<std::chrono::seconds>(now).count());
  findings.push_back(examine_keys(context));
  const auto agent = agent_config(flags);
  if (!agent.ok()) return context.fail(agent.error());
  for (Finding& finding : node::examine_security(*agent)) findings.push_back(std::move(finding));
  return print_result(context, findings);
}

int examine(Context& context, const DoctorFlags& flags) {
  if (flags.security) return report_security(context, flags);
  const auto config = agent_config(flags);
  if (!config.ok()) return context.fail(config.error());
  if (flags.disks) return measure_disks(context, *config, flags.paths);
  std::vector<Finding> findings = context.examine_host(*config, deployed_files(context));
  findings.push_back(examine_server(context));
  return print_result(context, findings);
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
                   {"thaw doctor", "thaw doctor --data-dir ./state --json", "thaw doctor --disks --path /srv/models", "thaw doctor --security --config /etc/thaw/server.yaml"},
                   [flags](Context& context) { return examine(context, *flags); });
  doctor->add_option("--config", flags->config_path, "As for `thaw serve`")
      ->type_name("FILE")
      ->check(CLI::Validator(CLI::ExistingFile).description(""));
  doctor->add_option("--data-dir", flags->data_dir, "As for `thaw serve`")->type_name("DIR");
  CLI::Option* const disks = doctor->add_flag(
      "--disks", flags->disks, "Measure how the disks of the data directory and of models are read best, some 3 s each, and remember it");
  doctor->add_flag("--security", flags->security, "Look at listeners, certificates, files' modes, the audit log's anchors and the walls around engines instead")->excludes(disks);
  doctor->add_option("--path", flags->paths, "With --disks: also the disk of this file or directory")->type_name("PATH")->needs(disks);

  commands.add("version", "Print the version", "An object with version", {"thaw version"}, print_version);
}

}  // namespace thaw::cli
