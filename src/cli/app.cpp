#include "cli/app.h"

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "base/version.h"
#include "cli/commands.h"
#include "cli/rollout_commands.h"
#include "spec/parse.h"

namespace thaw::cli {
namespace {

constexpr const char* kFooter = R"(Example:
  thaw serve --dev &
  thaw deploy ./stories260K.gguf --name stories
  thaw run stories "Once upon a time" --timing

Environment:
  THAW_URL      the server's URL (else what a local server left in
                ~/.config/thaw/client.json, else http://127.0.0.1:7420)
  THAW_API_KEY  the key to send
  NO_COLOR      set: no colours

Exit codes:
  0 ok   1 failure   2 wrong use or refused spec   3 server not reachable
  4 not found   5 API key refused   130 interrupted)";

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

/// "thaw run", or "thaw" when no command was recognised.
std::string used_command(const CLI::App& app) {
  const auto parsed = app.get_subcommands();
  return parsed.empty() ? "thaw" : "thaw " + parsed.front()->get_name();
}

/// What others call it: Ollama, Docker, kubectl.
std::string known_elsewhere(const std::string& word) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 13> kWords{
      {{"list", "thaw ls"},
       {"show", "thaw ls MODEL"},
       {"inspect", "thaw ls MODEL"},
       {"status", "thaw ps"},
       {"create", "thaw deploy"},
       {"apply", "thaw deploy"},
       {"cp", "thaw deploy --alias"},
       {"remove", "thaw rm"},
       {"delete", "thaw rm"},
       {"unload", "thaw stop"},
       {"load", "thaw wake"},
       {"start", "thaw wake"},
       {"generate", "thaw run"}}};
  for (const auto& [theirs, ours] : kWords)
    if (word == theirs) return std::string(ours);
  return {};
}

int refuse_unknown_command(const std::string& word, const std::vector<std::string>& names, const Context& context) {
  if (const std::string ours = known_elsewhere(word); !ours.empty()) {
    context.fail({base::ErrorKind::invalid, fmt::format("unknown command \"{}\"; it is `{}` here. See `thaw --help`", word, ours)});
    return kExitUsage;
  }
  const std::string close = spec::nearest(word, names);
  const std::string hint = close.empty() ? "" : fmt::format("; did you mean \"{}\"?", close);
  context.fail({base::ErrorKind::invalid,
                fmt::format("unknown command \"{}\"{} See `thaw --help`", word, hint.empty() ? ";" : hint)});
  return kExitUsage;
}

/// Of words that a command does not know: the first option, with what it may have meant.
std::string unknown_option(const CLI::App& app) {
  const auto parsed = app.get_subcommands();
  if (parsed.empty()) return {};
  std::vector<std::string> names;
  for (const CLI::Option* option : parsed.front()->get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  for (const std::string& left : app.remaining(true)) {
    const std::string word = left.substr(0, left.find('='));
    if (!word.starts_with("--")) continue;
    std::string meant = spec::nearest(word, names);
    for (const std::string& name : names)
      if (meant.empty() && name.starts_with(word + "-")) meant = name;
    return fmt::format("unknown option {}{}", word, meant.empty() ? "" : fmt::format("; did you mean {}?", meant));
  }
  return {};
}

int parse_and_run(std::vector<std::string> arguments, Context& context) {
  CLI::App app("Models that sleep until somebody asks them: an OpenAI API that costs nothing while idle.", "thaw");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("thaw ") + base::kVersion, "Print the version");
  app.require_subcommand(1);
  Commands commands(app, context);
  add_serve_command(commands);
  add_reload_command(commands);
  add_deploy_command(commands);
  add_list_commands(commands);
  add_top_command(commands);
  add_run_command(commands);
  add_chat_command(commands);
  add_logs_command(commands);
  add_events_commands(commands);
  add_verify_command(commands);
  add_pull_commands(commands);
  add_lifecycle_commands(commands);
  add_rollout_commands(commands);
  add_tier_commands(commands);
  add_container_image_commands(commands);
  add_node_commands(commands);
  add_tenant_command(commands);
  add_key_command(commands);
  add_audit_command(commands);
  add_usage_command(commands);
  add_sim_command(commands);
  add_calibrate_command(commands);
  add_host_commands(commands);
  add_shell_commands(commands);

  if (arguments.empty()) {
    context.err << app.help();
    return kExitUsage;
  }
  if (arguments.front() == "help") arguments = arguments.size() > 1 ? std::vector<std::string>{arguments[1], "--help"} : std::vector<std::string>{"--help"};
  const auto names = command_names(app);
  if (!arguments.front().starts_with('-') && std::find(names.begin(), names.end(), arguments.front()) == names.end())
    return refuse_unknown_command(arguments.front(), names, context);

  try {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    app.parse(std::move(arguments));
  } catch (const CLI::Success& wanted) {  // --help, --version
    return app.exit(wanted, context.out, context.err);
  } catch (const CLI::ExtrasError& error) {
    const std::string command = used_command(app);
    const std::string unknown = unknown_option(app);
    context.err << command << ": " << (unknown.empty() ? error.what() : unknown) << (unknown.ends_with('?') ? " See" : "; see") << " `" << command << " --help`\n";
    return kExitUsage;
  } catch (const CLI::ParseError& error) {
    const std::string command = used_command(app);
    context.err << command << ": " << error.what() << "; see `" << command << " --help`\n";
    return kExitUsage;
  }
  return commands.chosen()(context);
}

}  // namespace

CLI::App* Commands::add(const std::string& name, const std::string& description, const std::string& json_help,
                        const std::vector<std::string>& examples, Action action) {
  CLI::App* command = app_.add_subcommand(name, description);
  command->add_flag("--json", context_.json, json_help);
  std::string footer = "Example:";
  for (const std::string& example : examples) footer += "\n  " + example;
  command->footer(footer);
  command->callback([this, action = std::move(action)] { chosen_ = action; });
  return command;
}

void Commands::add_tenant_option(CLI::App* command) {
  command->add_option("--tenant", context_.tenant, "Whose (default: the key's own; of a key of the platform: all that there are)")->type_name("NAME");
}

int run_cli(const std::vector<std::string>& arguments, Context& context) {
  try {
    const int code = parse_and_run(arguments, context);
    context.out.flush();
    if (!context.out.good() && code == kExitOk)
      return context.fail({base::ErrorKind::io, "cannot write to standard output; is the disk full?"});
    return code;
  } catch (const std::exception& error) {  // a library's, or out of memory: nothing of ours throws
    return context.fail({base::ErrorKind::internal, fmt::format("internal error: {}", error.what())});
  }
}

}  // namespace thaw::cli
