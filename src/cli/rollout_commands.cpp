#include <chrono>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/json.h"
#include "cli/rollout_commands.h"
#include "cli/table.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;

struct RolloutFlags {
  std::string model;
  std::optional<std::uint32_t> to;
  std::optional<std::uint32_t> percent;
};

std::string path_of(const RolloutFlags& flags, const char* what) {
  std::string path = "/admin/v1/models/" + percent_encode(flags.model) + "/" + what;
  char mark = '?';
  const auto add = [&](const char* name, const std::optional<std::uint32_t>& value) {
    if (!value) return;
    path += fmt::format("{}{}={}", mark, name, *value);
    mark = '&';
  };
  add("to", flags.to);
  add("percent", flags.percent);
  return path;
}

int change(Context& context, const RolloutFlags& flags, const char* what) {
  const auto body = context.call({"POST", path_of(flags, what), ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  context.out << flags.model << ": " << rollout_line(*answer) << '\n';
  return kExitOk;
}

/// "3m"; "-" when it never was.
std::string age_since(const json::object& object, std::string_view unix_ms_key) {
  const std::uint64_t then_ms = count_of(object, unix_ms_key);
  if (then_ms == 0) return "-";
  const auto now = std::chrono::duration_cast<base::Millis>(std::chrono::system_clock::now().time_since_epoch());
  return format_ago(now - base::Millis(static_cast<std::int64_t>(then_ms)));
}

Style style_of(const std::string& state) {
  if (state == "serving") return Style::green;
  if (state == "failed") return Style::red;
  return state == "kept" ? Style::dim : Style::yellow;
}

int list_revisions(Context& context, const RolloutFlags& flags) {
  const auto body = context.call({"GET", path_of(flags, "revisions"), ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  Table table({{"REVISION", Table::Align::right},
               {"STATE"},
               {"REQUESTS", Table::Align::right},
               {"DEPLOYED"},
               {"SERVED"},
               {"SOURCE"},
               {"WHY NOT"}});
  for (const json::object* revision : objects_of(*answer, "revisions")) {
    const std::string state = text_of(*revision, "state");
    const auto* spec = object_of(*revision, "spec");
    const auto* source = spec == nullptr ? nullptr : object_of(*spec, "source");
    std::string from;
    for (const char* key : {"path", "hf", "url"})
      if (source != nullptr && from.empty()) from = text_of(*source, key);
    table.add({{std::to_string(count_of(*revision, "number"))},
               {state, style_of(state)},
               {fmt::format("{}%", count_of(*revision, "percent"))},
               {age_since(*revision, "created_unix_ms")},
               {age_since(*revision, "served_unix_ms")},
               {from},
               {text_of(*revision, "failure")}});
  }
  context.out << table.render(context.terminal.colours);
  return kExitOk;
}

void add_model(Commands& commands, CLI::App* command, RolloutFlags& flags) {
  command->add_option("MODEL", flags.model, "Its name")
      ->required()
      ->check(CLI::Validator(
          [](const std::string& text) { return std::string(text.empty() ? "the name is empty" : ""); }, ""));
  commands.add_tenant_option(command);
}

}  // namespace

std::string rollout_line(const json::object& answer) {
  const std::uint64_t active = count_of(answer, "revision");
  const auto* rollout = object_of(answer, "rollout");
  std::string text = fmt::format("revision {} serves", active);
  if (rollout == nullptr) return text;
  const std::uint64_t candidate = count_of(*rollout, "candidate");
  const std::uint64_t percent = count_of(*rollout, "percent");
  const std::string stage = text_of(*rollout, "stage");
  if (stage == "starting")
    text += fmt::format("; revision {} starts, and gets {} when it is ready", candidate,
                        percent >= 100 ? "all requests" : fmt::format("{}% of the requests", percent));
  if (stage == "split") text += fmt::format("; revision {} gets {}% of the requests", candidate, percent);
  if (const std::uint64_t draining = count_of(*rollout, "draining"); draining > 0)
    text += "; the one before answers its last requests";
  if (const std::string failure = text_of(*rollout, "last_failure"); !failure.empty()) text += "; " + failure;
  return text;
}

void add_rollout_commands(Commands& commands) {
  auto listed = std::make_shared<RolloutFlags>();
  CLI::App* revisions =
      commands.add("revisions", "List a model's revisions: each deploy of a changed spec made one", "The server's JSON",
                   {"thaw revisions stories"}, [listed](Context& context) { return list_revisions(context, *listed); });
  add_model(commands, revisions, *listed);

  auto back = std::make_shared<RolloutFlags>();
  CLI::App* rollback =
      commands.add("rollback", "Go back to a model's revision of before; the present one serves until that is ready",
                   "The server's JSON", {"thaw rollback stories", "thaw rollback stories --to 2"},
                   [back](Context& context) { return change(context, *back, "rollback"); });
  add_model(commands, rollback, *back);
  rollback
      ->add_option("--to", back->to,
                   "The revision (default: what is on its way is given up, else the one that served last)")
      ->type_name("N")
      ->check(CLI::Validator(CLI::PositiveNumber).description(""));

  auto out = std::make_shared<RolloutFlags>();
  CLI::App* rollout = commands.add("rollout", "Give a part of a model's requests to another revision, or all of them",
                                   "The server's JSON",
                                   {"thaw rollout stories --to 3 --percent 10", "thaw rollout stories --percent 50",
                                    "thaw rollout stories --percent 100"},
                                   [out](Context& context) { return change(context, *out, "rollout"); });
  add_model(commands, rollout, *out);
  rollout->add_option("--to", out->to, "The revision (default: the one that is on its way)")
      ->type_name("N")
      ->check(CLI::Validator(CLI::PositiveNumber).description(""));
  rollout
      ->add_option("--percent", out->percent,
                   "Of the requests, the same clients as long as it grows; 100 makes it the one that serves, 0 gives "
                   "it up (default: 100)")
      ->type_name("0..100")
      ->check(CLI::Range(0, 100).description(""));
}

}  // namespace thaw::cli
