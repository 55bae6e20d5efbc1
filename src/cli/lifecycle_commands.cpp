#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/json.h"

namespace thaw::cli {
namespace {

int stop_model(Context& context, const std::string& name, bool kill) {
  const auto body =
      context.call({"POST", "/admin/v1/models/" + percent_encode(name) + "/stop" + (kill ? "?kill=1" : ""), ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  const std::uint64_t count = count_of(*answer, "stopping");
  if (count == 0) {
    context.out << name << " is asleep already\n";
  } else {
    context.out << fmt::format("stopping {} instance{} of {}\n", count, count == 1 ? "" : "s", name);
  }
  return kExitOk;
}

/// One that fails does not keep the others; the first failure's exit code.
int remove_models(Context& context, const std::vector<std::string>& names) {
  int code = kExitOk;
  for (const std::string& name : names) {
    const auto body = context.call({"DELETE", "/admin/v1/models/" + percent_encode(name), ""});
    if (!body.ok()) {
      const int failed = context.fail(body.error());
      code = code == kExitOk ? failed : code;
    } else if (context.json) {
      context.print_json(*body);
    } else {
      context.out << "removed " << name << " (its file stays)\n";
    }
  }
  return code;
}

int evict_model(Context& context, const std::string& name) {
  const auto body = context.call({"POST", "/admin/v1/models/" + percent_encode(name) + "/evict", ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  context.out << fmt::format("{} of {} left host memory", base::format_bytes(count_of(*answer, "freed_bytes")), name);
  if (const std::string why = text_of(*answer, "why_left"); !why.empty())
    context.out << fmt::format(", {} stay: {}", base::format_bytes(count_of(*answer, "resident_bytes")), why);
  context.out << '\n';
  return kExitOk;
}

std::string check_not_empty(const std::string& text) {
  return text.empty() ? "the name is empty" : "";
}

}  // namespace

void add_lifecycle_commands(Commands& commands) {
  struct StopFlags {
    std::string model;
    bool kill = false;
  };
  auto flags = std::make_shared<StopFlags>();
  CLI::App* stop = commands.add("stop", "Put a model to sleep now; the next request wakes it", "The server's JSON",
                                {"thaw stop stories", "thaw stop stories --kill"},
                                [flags](Context& context) { return stop_model(context, flags->model, flags->kill); });
  stop->add_option("MODEL", flags->model, "Its name")->required()->check(CLI::Validator(check_not_empty, ""));
  commands.add_tenant_option(stop);
  stop->add_flag("--kill", flags->kill, "Do not let running requests finish");

  auto evicted = std::make_shared<std::string>();
  CLI::App* evict =
      commands.add("evict", "Take a sleeping model's weights out of host memory", "The server's JSON",
                   {"thaw evict stories"}, [evicted](Context& context) { return evict_model(context, *evicted); });
  commands.add_tenant_option(evict);
  evict->add_option("MODEL", *evicted, "Its name")->required()->check(CLI::Validator(check_not_empty, ""));

  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* rm = commands.add("rm", "Stop models and forget them; their weight files stay",
                              "The server's JSON, a line a model", {"thaw rm stories", "thaw rm stories chat"},
                              [names](Context& context) { return remove_models(context, *names); });
  commands.add_tenant_option(rm);
  rm->add_option("MODEL", *names, "Its name, or several")->required()->check(CLI::Validator(check_not_empty, ""));
}

}  // namespace thaw::cli
