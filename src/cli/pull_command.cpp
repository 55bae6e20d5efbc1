#include <chrono>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/garbage.h"
#include "cli/json.h"
#include "cli/pull_view.h"
#include "cli/table.h"
#include "spec/source_ref.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;
using Align = Table::Align;

struct PullFlags {
  std::string what;
  std::string sha256;
  bool safetensors = false;
};

/// The body of the order: a model's name, or a source.
json::object order_of(const PullFlags& flags) {
  const auto source = spec::source_from_text(flags.what);
  if (!source) return {{"model", flags.what}};
  json::object where;
  if (!source->hf.empty()) where["hf"] = source->hf;
  if (!source->url.empty()) where["url"] = source->url;
  if (!flags.sha256.empty()) where["sha256"] = flags.sha256;
  return {{"source", std::move(where)}, {"safetensors", flags.safetensors}};
}

base::ErrorKind kind_of(const std::string& name) {
  using base::ErrorKind;
  // As exit codes count them: the server at the other end is not ours.
  if (name == "not_found") return ErrorKind::not_found;
  return ErrorKind::io;
}

/// Ctrl-C: a pull for itself stops, one that a model waits for goes on.
int interrupted(Context& context, const Client& client, const PullFlags& flags, const json::object& pull) {
  const auto* models = pull.if_contains("models");
  const bool wanted = models != nullptr && models->is_array() && !models->get_array().empty();
  const auto stopped =
      wanted ? base::Result<HttpResponse>(base::Error{}) : client.send({"DELETE", fmt::format("/admin/v1/pulls/{}", count_of(pull, "id")), ""});
  if (stopped.ok())
    context.err << fmt::format("stopped at {}; `thaw pull {}` goes on from there\n", base::format_bytes(count_of(pull, "done_bytes")), flags.what);
  else
    context.err << "the server goes on with it, since a model waits for it\n";
  return kExitInterrupted;
}

int pull(Context& context, const PullFlags& flags) {
  if (!flags.sha256.empty() && !flags.what.starts_with("http"))
    return context.fail({base::ErrorKind::invalid, "--sha256 goes with an URL; a hub says its files' digests itself"});
  const auto client = context.client();
  if (!client.ok()) return context.fail(client.error());
  const auto response = client->send({"POST", "/admin/v1/pulls", json::serialize(order_of(flags))});
  if (!response.ok()) return context.fail(response.error());
  const auto begun = parse_object(response->body, "the server");
  if (!begun.ok()) return context.fail(begun.error());
  const auto followed = follow_pull(context, *begun, [&]() -> base::Result<json::object> {
    THAW_ASSIGN_OR_RETURN(const HttpResponse now, client->send({"GET", fmt::format("/admin/v1/pulls/{}", count_of(*begun, "id")), ""}));
    return parse_object(now.body, "the server");
  });
  if (!followed.ok()) return context.fail(followed.error());
  const json::object& last = followed->pull;
  if (followed->end == StreamEnd::interrupted) return interrupted(context, *client, flags, last);
  if (context.json) context.out << json::serialize(last) << '\n';
  if (text_of(last, "state") == "failed") {
    const auto* error = object_of(last, "error");
    const std::string source = text_of(last, "source");
    std::string why = error == nullptr ? "" : text_of(*error, "message");
    if (why.starts_with(source + ": ")) why.erase(0, source.size() + 2);  // once is enough
    return context.fail({kind_of(error == nullptr ? "" : text_of(*error, "kind")), fmt::format("cannot pull {}: {}", source, why)});
  }
  if (context.json) return kExitOk;
  const double took_s = (number_of(last, "ended_unix_ms").value_or(0) - number_of(last, "begun_unix_ms").value_or(0)) / 1000;
  const std::uint64_t fetched_bytes = count_of(last, "fetched_bytes");
  if (fetched_bytes == 0)
    context.out << fmt::format("{} is there ({})\n", text_of(last, "source"), base::format_bytes(count_of(last, "total_bytes")));
  else
    context.out << fmt::format("pulled {}: {} in {}\n", text_of(last, "source"), base::format_bytes(fetched_bytes), format_ms(took_s * 1000));
  return kExitOk;
}

int list_store(Context& context) {
  const auto body = context.call({"GET", "/admin/v1/store", ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  const auto pulls = context.call({"GET", "/admin/v1/pulls", ""});
  const auto pulls_answer = pulls.ok() ? parse_object(*pulls, "the server") : base::Result<json::object>(pulls.error());
  if (!pulls_answer.ok()) return context.fail(pulls_answer.error());
  Table table({{"SOURCE"}, {"STATE"}, {"SIZE", Align::right}, {"MODELS"}, {"AGE", Align::right}});
  const auto models_of = [](const json::object& object) {
    std::string names;
    if (const auto* models = object.if_contains("models"); models != nullptr && models->is_array())
      for (const json::value& name : models->get_array())
        if (name.is_string()) names += (names.empty() ? "" : ", ") + std::string(name.get_string());
    return names.empty() ? std::string("-") : names;
  };
  const auto now_ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const json::object* source : objects_of(*answer, "sources")) {
    const auto age_ms = static_cast<double>(now_ms) - number_of(*source, "pulled_unix_ms").value_or(0);
    table.add({{text_of(*source, "source"), Style::bold},
               {"there", Style::green},
               {base::format_bytes(count_of(*source, "bytes"))},
               {models_of(*source)},
               {format_age(base::Millis(static_cast<std::int64_t>(age_ms)))}});
  }
  for (const json::object* one : objects_of(*pulls_answer, "pulls")) {
    const std::string state = text_of(*one, "state");
    if (state == "done" || state == "failed") continue;
    table.add({{text_of(*one, "source"), Style::bold},
               {fmt::format("{} {}%", state, count_of(*one, "percent")), Style::yellow},
               {base::format_bytes(count_of(*one, "total_bytes"))},
               {models_of(*one)},
               {"-"}});
  }
  context.out << table.render(context.terminal.colours);
  const std::uint64_t budget_bytes = count_of(*answer, "budget_bytes");
  context.out << fmt::format("\n{} used{}, {} free on the disk\n", base::format_bytes(count_of(*answer, "used_bytes")),
                             budget_bytes == 0 ? "" : " of a budget of " + base::format_bytes(budget_bytes),
                             base::format_bytes(count_of(*answer, "free_bytes")));
  return kExitOk;
}

}  // namespace

void add_pull_commands(Commands& commands) {
  auto flags = std::make_shared<PullFlags>();
  CLI::App* command =
      commands.add("pull", "Fetch a model's files into the server's store, or go on where that was cut", "The pull as it ended",
                   {"thaw pull hf:ggml-org/models/tinyllamas/stories260K.gguf", "thaw pull hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
                    "thaw pull https://host/model.gguf --sha256 DIGEST", "thaw pull stories"},
                   [flags](Context& context) { return pull(context, *flags); });
  command->add_option("WHAT", flags->what, "hf:ORG/REPO[/FILE|:QUANTISATION][@REVISION], an URL, or a deployed model that has such a source")
      ->required();
  command->add_option("--sha256", flags->sha256, "What the URL's file must have")->type_name("DIGEST");
  command->add_flag("--safetensors", flags->safetensors, "Rather the safetensors of a repository that has GGUF files too");

  struct StoreFlags {
    std::string act;
    bool dry_run = false;
  };
  auto store = std::make_shared<StoreFlags>();
  CLI::App* models = commands.add("models", "List what was pulled into the server's store; `gc` removes what no model has", "The server's JSON",
                                  {"thaw models", "thaw models gc --dry-run", "thaw models gc"}, [store](Context& context) {
                                    if (store->act != "gc" && store->dry_run)
                                      return context.fail({base::ErrorKind::invalid, "--dry-run goes with gc"});
                                    return store->act == "gc" ? collect_garbage(context, "/admin/v1/store/gc", store->dry_run) : list_store(context);
                                  });
  models->add_option("gc", store->act, "Remove what no model has")->type_name("")->check(CLI::IsMember({"gc"}).description(""));
  models->add_flag("--dry-run", store->dry_run, "Only say what would go");
}

}  // namespace thaw::cli
