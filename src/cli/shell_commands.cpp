#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/json.h"
#include "gateway/openapi.h"
#include "spec/schema.h"

namespace thaw::cli {
namespace {

/// The models that the server knows; none when it does not answer.
std::vector<std::string> model_names(const Context& context) {
  std::vector<std::string> names;
  const auto body = context.call({"GET", "/admin/v1/models", ""});
  if (!body.ok()) return names;
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return names;
  for (const boost::json::object* model : objects_of(*answer, "models")) names.push_back(text_of(*model, "name"));
  return names;
}

int print_candidates(Context& context, const Commands& commands, const std::vector<std::string>& words) {
  for (const Candidate& one : complete(commands.app(), commands.offered(), words, [&context] { return model_names(context); }))
    context.out << one.text << (one.description.empty() ? "" : "\t" + one.description) << '\n';
  return kExitOk;
}

int print_as_json_or_text(Context& context, const char* key, const std::string& text) {
  if (context.json)
    context.out << boost::json::serialize(boost::json::object{{key, text}}) << '\n';
  else
    context.out << text;
  return kExitOk;
}

}  // namespace

void add_shell_commands(Commands& commands) {
  auto shell = std::make_shared<std::string>();
  CLI::App* completion = commands.add(
      "completion", "Print what makes a shell complete thaw's commands, options and models", "An object with script",
      {"source <(thaw completion bash)", "thaw completion fish > ~/.config/fish/completions/thaw.fish"},
      [shell](Context& context) { return print_as_json_or_text(context, "script", completion_script(*shell)); });
  const std::vector<std::string> shells{"bash", "zsh", "fish"};
  CLI::Option* const of = completion->add_option("SHELL", *shell, "bash, zsh or fish")->required();
  commands.offer(of->check(CLI::IsMember(shells).description("")), shells);

  const CLI::App& app = commands.app();
  commands.add("man", "Print the manual page", "An object with page",
               {"thaw man | man -l -", "thaw man > /usr/local/share/man/man1/thaw.1"},
               [&app](Context& context) { return print_as_json_or_text(context, "page", manual_page(app)); });

  auto kind = std::make_shared<std::string>("model");
  CLI::App* schema = commands.add(
      "schema", "Print the JSON Schema of a specification, or the OpenAPI document, for editors and for checks", "The same: a schema is JSON",
      {"thaw schema > model.schema.json", "thaw schema server > server.schema.json", "thaw schema api > openapi.json"}, [kind](Context& context) {
        if (*kind == "api") context.out << gateway::openapi_text();
        else context.out << (*kind == "server" ? spec::server_schema() : spec::model_schema()) << '\n';
        return kExitOk;
      });
  const std::vector<std::string> kinds{"model", "server", "api"};
  CLI::Option* const which = schema->add_option("KIND", *kind, "model (default), server or api");
  commands.offer(which->check(CLI::IsMember(kinds).description("")), kinds);

  auto words = std::make_shared<std::vector<std::string>>();
  CLI::App* asked =
      commands.add("__complete", "What can stand in the place of the last word; for the scripts of `thaw completion`",
                   "Not for people", {"thaw __complete -- ru"},
                   [&commands, words](Context& context) { return print_candidates(context, commands, *words); });
  asked->group("");
  asked->add_option("WORDS", *words, "What was typed after thaw");
}

}  // namespace thaw::cli
