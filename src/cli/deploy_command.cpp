#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/deploy_spec.h"
#include "cli/json.h"
#include "cli/rollout_commands.h"
#include "cli/pull_view.h"
#include "spec/parse.h"

namespace thaw::cli {
namespace {

/// "gguf v3, 1.1MiB of weights, 64MiB on cpu a replica"
std::string describe_facts(const boost::json::object& answer, const spec::ModelSpec& spec) {
  std::uint64_t device_bytes = spec.resources.device_memory_bytes.value_or(0);
  std::string text;
  if (const auto* facts = object_of(answer, "facts"); facts != nullptr && spec.is_adapter())
    return fmt::format("{}, {}, an adapter of {}", text_of(*facts, "format"), base::format_bytes(count_of(*facts, "weights_bytes")), spec.base_model);
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

/// The rest of a deploy whose files the server has to fetch first.
int deploy_pulled(Context& context, const std::string& name, const boost::json::object& begun, bool created) {
  const auto client = context.client();
  if (!client.ok()) return context.fail(client.error());
  std::string body;
  // Files that are there are still looked into before they serve: the model says when that is through.
  boost::json::object first = begun;
  if (text_of(first, "state") == "done") first["state"] = "resolving";
  const auto followed = follow_pull(context, first, [&]() -> base::Result<boost::json::object> {
    THAW_ASSIGN_OR_RETURN(HttpResponse now, client->send({"GET", "/admin/v1/models/" + percent_encode(name), ""}));
    THAW_ASSIGN_OR_RETURN(const boost::json::object model, parse_object(now.body, "the server"));
    body = std::move(now.body);
    const auto* pull = object_of(model, "pull");
    if (pull == nullptr) return boost::json::object{{"state", "done"}};
    boost::json::object state = *pull;
    if (text_of(state, "state") == "done") state["state"] = "pulling";
    return state;
  });
  if (!followed.ok()) return context.fail(followed.error());
  if (followed->end == StreamEnd::interrupted) {
    context.err << fmt::format("the server goes on pulling; `thaw pull {}` shows how it goes\n", name);
    return kExitInterrupted;
  }
  if (text_of(followed->pull, "state") == "failed") {
    const auto* error = object_of(followed->pull, "error");
    return context.fail({base::ErrorKind::io, fmt::format("{} is deployed, and cannot serve yet: {}", name,
                                                          error == nullptr ? "its files could not be pulled" : text_of(*error, "message"))});
  }
  if (context.json) return context.print_json(body);
  const auto model = parse_object(body, "the server");
  if (!model.ok()) return context.fail(model.error());
  context.out << fmt::format("{} {}: {} of weights, {} on {} a replica\n", created ? "deployed" : "updated", styled(name, Style::bold, context.terminal.colours),
                             base::format_bytes(count_of(*model, "weights_bytes")), base::format_bytes(count_of(*model, "device_memory_bytes")), text_of(*model, "device"));
  if (context.terminal.out_is_terminal) context.out << fmt::format("ask it: thaw run {} \"Once upon a time\"\n", name);
  return kExitOk;
}

struct TakeOver {
  std::optional<std::uint32_t> percent;
  std::optional<std::uint32_t> timeout_s;

  [[nodiscard]] std::string query() const {
    std::string text;
    if (percent) text = fmt::format("?percent={}", *percent);
    if (timeout_s) text += fmt::format("{}timeout_s={}", text.empty() ? '?' : '&', *timeout_s);
    return text;
  }
};

int deploy(Context& context, const DeployFlags& flags, bool detach, const TakeOver& take_over) {
  const auto spec = make_spec(flags);
  if (!spec.ok()) return context.fail(spec.error());
  const auto body = context.call({"POST", "/admin/v1/models" + take_over.query(), spec::to_json(*spec)});
  if (!body.ok()) return context.fail(body.error());
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  const auto* begun = object_of(*answer, "pull");
  if (begun != nullptr && !detach) return deploy_pulled(context, spec->name.str(), *begun, flag_of(*answer, "created"));
  if (context.json) return context.print_json(*body);
  if (begun != nullptr) {
    context.out << fmt::format("pulling {0}; `thaw pull {0}` shows how it goes\n", spec->name.str());
    return kExitOk;
  }

  const std::string& name = spec->name.str();
  const std::string facts = describe_facts(*answer, *spec);
  context.out << fmt::format("{} {}{}\n", flag_of(*answer, "created") ? "deployed" : "updated",
                             styled(name, Style::bold, context.terminal.colours), facts.empty() ? "" : ": " + facts);
  if (object_of(*answer, "rollout") != nullptr) context.out << rollout_line(*answer) << '\n';
  if (!spec->image.empty()) context.out << fmt::format("its container image is fetched if it is not there: thaw ls {}\n", name);
  if (context.terminal.out_is_terminal) context.out << fmt::format("ask it: thaw run {} \"Once upon a time\"\n", name);
  return kExitOk;
}

}  // namespace

void add_deploy_command(Commands& commands) {
  auto flags = std::make_shared<DeployFlags>();
  auto detach = std::make_shared<bool>(false);
  auto take_over = std::make_shared<TakeOver>();
  CLI::App* command =
      commands.add("deploy", "Make a model known, or change it; it sleeps until it is asked", "The server's JSON",
                   {"thaw deploy model.yaml", "thaw deploy ./stories260K.gguf --name stories --idle-timeout 30s",
                    "thaw deploy llama --hf bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", "thaw deploy --url https://host/model.gguf --sha256 DIGEST"},
                   [flags, detach, take_over](Context& context) { return deploy(context, *flags, *detach, *take_over); });
  command->add_option("FILE", flags->path, "A spec (FILE.yaml, or - for standard input) or weights (PATH.gguf); with --hf or --url the model's name");
  command->add_option("--hf", flags->hf, "Pull it from a hub: the only or Q4_K_M GGUF file, or what is named")->type_name("ORG/REPO[/FILE|:QUANTISATION][@REVISION]");
  command->add_option("--url", flags->url, "Pull it from there: a GGUF file, or the first of its parts")->type_name("URL");
  command->add_option("--sha256", flags->sha256, "What the file at --url must have")->type_name("DIGEST");
  command->add_option("--base", flags->base, "It is an adapter (LoRA) of this model, whose replicas answer for it")->type_name("MODEL");
  command->add_option("--engine", flags->engine, "What runs it (default: llama.cpp)")
      ->type_name("llama.cpp|vllm|sglang")
      ->check(CLI::IsMember({"llama.cpp", "vllm", "sglang"}).description(""));
  command->add_option("--image", flags->image, "Container image whose files are the engine's root")->type_name("docker://…|oci:DIR");
  command->add_flag("--detach", *detach, "Do not wait until its files were pulled");
  command->add_option("--percent", take_over->percent, "Of the requests that a changed spec gets once it is ready, until `thaw rollout` gives it more (default: 100)")
      ->type_name("1..100")
      ->check(CLI::Range(1, 100).description(""));
  command->add_option("--takeover-timeout", take_over->timeout_s, "Seconds until a changed spec must be ready; else the old one stays (default: 600)")
      ->type_name("SECONDS")
      ->check(CLI::Range(1, 86'400).description(""));
  commands.add_tenant_option(command);
  command->add_option("--name", flags->name, "Its name (default: the spec's, or the weight file's name)");
  command->add_option("--alias", flags->aliases, "Another name that it is asked under, like gpt-4o; may be given again")->type_name("NAME")->allow_extra_args(false);
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
