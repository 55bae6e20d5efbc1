#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/deploy_spec.h"
#include "cli/json.h"
#include "spec/parse.h"

namespace thaw::cli {
namespace {

/// "gguf v3, 1.1MiB of weights, 64MiB on cpu a replica"
std::string describe_facts(const boost::json::object& answer, const spec::ModelSpec& spec) {
  std::uint64_t device_bytes = spec.resources.device_memory_bytes.value_or(0);
  std::string text;
  if (const auto* facts = object_of(answer, "facts")) {
    text = fmt::format("{}, {} of weights", text_of(*facts, "format"),
                       base::format_bytes(count_of(*facts, "weights_bytes")));
    if (device_bytes == 0) device_bytes = count_of(*facts, "estimated_device_bytes");
  }
  if (device_bytes != 0)
    text += fmt::format("{}{} on {} a replica", text.empty() ? "" : ", ", base::format_bytes(device_bytes),
                        spec::to_string(spec.resources.device));
  return text;
}

int deploy(Context& context, const DeployFlags& flags) {
  const auto spec = make_spec(flags);
  if (!spec.ok()) return context.fail(spec.error());
  const auto body = context.call({"POST", "/admin/v1/models", spec::to_json(*spec)});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());

  const std::string& name = spec->name.str();
  const std::string facts = describe_facts(*answer, *spec);
  context.out << fmt::format("{} {}{}\n", flag_of(*answer, "created") ? "deployed" : "updated",
                             styled(name, Style::bold, context.terminal.colours), facts.empty() ? "" : ": " + facts);
  if (context.terminal.out_is_terminal) context.out << fmt::format("ask it: thaw run {} \"Once upon a time\"\n", name);
  return kExitOk;
}

}  // namespace

void add_deploy_command(Commands& commands) {
  auto flags = std::make_shared<DeployFlags>();
  CLI::App* command =
      commands.add("deploy", "Make a model known, or change it; it sleeps until it is asked", "The server's JSON",
                   {"thaw deploy model.yaml", "thaw deploy ./stories260K.gguf --name stories --idle-timeout 30s"},
                   [flags](Context& context) { return deploy(context, *flags); });
  command->add_option("FILE", flags->path, "A spec (FILE.yaml, or - for standard input) or weights (PATH.gguf)")
      ->required();
  command->add_option("--name", flags->name, "Its name (default: the spec's, or the weight file's name)");
  command->add_option("--device", flags->device, "Where it runs (default: cpu)")
      ->type_name("cpu|cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}).description(""));
  command->add_option("--devices", flags->devices, "Devices of one machine that a replica takes (default: 1)")->type_name("N");
  command->add_option("--priority", flags->priority, "Who goes first where not all can be served (default: normal)")
      ->type_name("low|normal|high")
      ->check(CLI::IsMember({"low", "normal", "high"}).description(""));
  command->add_option("--device-memory", flags->device_memory, "Held by one replica, like 2GiB (default: estimated)")
      ->type_name("SIZE");
  command->add_option("--min-replicas", flags->min_replicas, "Kept awake always (default: 0)")->type_name("N");
  command->add_option("--max-replicas", flags->max_replicas, "At most so many (default: 1)")->type_name("N");
  command->add_option("--concurrency", flags->concurrency, "Requests one replica answers at once (default: 4)")
      ->type_name("N");
  command
      ->add_option("--idle-timeout", flags->idle_timeout, "Asleep after so long without work, like 30s (default: 5m)")
      ->type_name("TIME");
  command->add_option("--standby", flags->standby, "Rest frozen before it rests as nothing (default: auto, what is measured to be quicker)")
      ->type_name("auto|never|always")
      ->check(CLI::IsMember({"auto", "never", "always"}).description(""));
  command->add_option("--context", flags->context, "Context of one request in tokens (default: chosen by the node)")
      ->type_name("N")
      ->check(CLI::Validator(CLI::PositiveNumber).description(""));
}

}  // namespace thaw::cli
