#include <memory>

#include <CLI/CLI.hpp>

#include "cli/commands.h"

namespace thaw::cli {
namespace {

std::string check_listen(const std::string& text) {
  spec::ServerConfig scratch;
  const base::Status status = spec::parse_listen(text, scratch);
  return status.ok() ? std::string() : status.error().message;
}

}  // namespace

void add_serve_command(Commands& commands) {
  struct Flags {
    ServeOptions options;
    std::string sandbox;
  };
  auto flags = std::make_shared<Flags>();
  const auto serve = [flags](Context& context) {
    ServeOptions options = flags->options;
    options.log_json = context.json;
    for (const auto kind : {spec::SandboxKind::runc, spec::SandboxKind::runsc, spec::SandboxKind::none})
      if (flags->sandbox == to_string(kind)) options.sandbox = kind;
    return context.serve(options);
  };

  CLI::App* command =
      commands.add("serve", "Run the server: gateway, controller and node in one process", "Log lines as JSON",
                   {"thaw serve", "thaw serve --dev --data-dir ./state --listen 127.0.0.1:8080"}, serve);
  command->add_option("--config", flags->options.config_path, "Settings in YAML; flags win over them")
      ->type_name("FILE")
      ->check(CLI::Validator(CLI::ExistingFile).description(""));
  command->add_option("--data-dir", flags->options.data_dir, "Where all state lies (default: /var/lib/thaw)")
      ->type_name("DIR");
  command->add_option("--listen", flags->options.listen, "Address to answer on (default: 127.0.0.1:7420)")
      ->type_name("HOST:PORT")
      ->check(CLI::Validator(check_listen, ""));
  command->add_flag("--dev", flags->options.dev, "Ask for no API key; loopback addresses only");
  command->add_option("--sandbox", flags->sandbox, "How engines are confined (default: runc); none is for development")
      ->type_name("runc|runsc|none")
      ->check(CLI::IsMember({"runc", "runsc", "none"}).description(""));
  command->add_option("--log-level", flags->options.log_level, "How much to log (default: info)")
      ->type_name("debug|info|warn|error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}).description(""));
}

}  // namespace thaw::cli
