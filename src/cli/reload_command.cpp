#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/json.h"
#include "cli/rollout_commands.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;

std::string listed(const json::object& answer, const char* key) {
  std::string text;
  const auto* names = answer.if_contains(key);
  if (names == nullptr || !names->is_array()) return text;
  for (const json::value& name : names->get_array())
    if (name.is_string()) text += (text.empty() ? "" : ", ") + std::string(name.get_string());
  return text;
}

int reload(Context& context) {
  const auto body = context.call({"POST", "/admin/v1/reload", ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  const std::string applied = listed(*answer, "applied");
  const std::string needs_restart = listed(*answer, "needs_restart");
  if (applied.empty() && needs_restart.empty()) context.out << "nothing has changed\n";
  if (!applied.empty()) context.out << "changed: " << applied << '\n';
  if (!needs_restart.empty()) context.out << "needs a restart of the server: " << needs_restart << '\n';
  return kExitOk;
}

}  // namespace

void add_reload_command(Commands& commands) {
  commands.add("reload",
               "Have the server read its configuration again; it says what counts at once and what needs a restart",
               "The server's JSON", {"thaw reload"}, reload);
}

}  // namespace thaw::cli
