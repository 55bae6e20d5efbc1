#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cli/context.h"

namespace CLI {
class App;
class Option;
}

namespace thaw::cli {

/// The command line's grammar as it grows: each command group adds its commands, then the parsed one runs.
class Commands {
 public:
  /// Runs a command after its arguments were parsed. Returns the exit code.
  using Action = std::function<int(Context&)>;

  Commands(CLI::App& app, Context& context) : app_(app), context_(context) {}

  /// Adds a command with --json and its examples at the end of its --help. The caller adds the other options, bound to
  /// values that `action` owns a share of. `json_help` says what --json prints.
  CLI::App* add(const std::string& name, const std::string& description, const std::string& json_help,
                const std::vector<std::string>& examples, Action action);

  /// --tenant, for commands that are about a tenant's things.
  void add_tenant_option(CLI::App* command);

  /// Lets completion offer these words for an option's value.
  void offer(const CLI::Option* option, std::vector<std::string> words) { offered_[option] = std::move(words); }
  [[nodiscard]] const std::map<const CLI::Option*, std::vector<std::string>>& offered() const { return offered_; }

  /// All of the grammar, for what tells of it: completion, the manual page.
  [[nodiscard]] const CLI::App& app() const { return app_; }

  /// The command that was parsed; empty before parsing.
  [[nodiscard]] const Action& chosen() const { return chosen_; }

 private:
  CLI::App& app_;
  Context& context_;
  Action chosen_;
  std::map<const CLI::Option*, std::vector<std::string>> offered_;
};

void add_serve_command(Commands& commands);       // serve
void add_deploy_command(Commands& commands);      // deploy
void add_list_commands(Commands& commands);       // ls, ps
void add_top_command(Commands& commands);         // top
void add_run_command(Commands& commands);         // run
void add_chat_command(Commands& commands);        // chat
void add_logs_command(Commands& commands);        // logs
void add_events_commands(Commands& commands);     // events, explain
void add_verify_command(Commands& commands);      // verify
void add_pull_commands(Commands& commands);       // pull, models
void add_lifecycle_commands(Commands& commands);  // stop, evict, rm
void add_node_commands(Commands& commands);       // cordon, drain, uncordon
void add_tier_commands(Commands& commands);       // freeze, wake, snapshot, images
void add_tenant_command(Commands& commands);      // tenant
void add_key_command(Commands& commands);         // key
void add_container_image_commands(Commands& commands);  // container-images
void add_audit_command(Commands& commands);       // audit
void add_usage_command(Commands& commands);       // usage
void add_sim_command(Commands& commands);         // sim
void add_calibrate_command(Commands& commands);   // calibrate
void add_host_commands(Commands& commands);       // doctor, version
void add_shell_commands(Commands& commands);      // completion, man, schema

}  // namespace thaw::cli
