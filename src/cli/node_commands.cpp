#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/commands.h"
#include "cli/json.h"

namespace thaw::cli {
namespace {

/// Posts to the route of NODE, or of NODE/DEVICE.
int act_on_node(Context& context, const std::string& where, const std::string& act) {
  const auto slash = where.find('/');
  std::string path = "/admin/v1/nodes/" + percent_encode(where.substr(0, slash)) + "/" + act;
  if (slash != std::string::npos) path += "?device=" + percent_encode(where.substr(slash + 1));
  const auto body = context.call({"POST", path, ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  const std::uint64_t leaving = count_of(*answer, "leaving");
  if (act == "drain")
    context.out << fmt::format("{} takes no new replicas; {} of those there leave, once their requests have ended\n", where, leaving);
  else if (act == "cordon")
    context.out << where << " takes no new replicas; those there stay\n";
  else
    context.out << where << " takes replicas again\n";
  return kExitOk;
}

std::string check_place(const std::string& text) {
  const auto slash = text.find('/');
  if (text.empty() || slash == 0) return "the node's name is empty";
  return slash == text.size() - 1 ? "the device's name is empty" : "";
}

}  // namespace

void add_node_commands(Commands& commands) {
  const auto add = [&commands](const char* name, const char* description, std::vector<std::string> examples) {
    auto where = std::make_shared<std::string>();
    const std::string act = name;
    CLI::App* command = commands.add(name, description, "The server's JSON", examples, [where, act](Context& context) { return act_on_node(context, *where, act); });
    command->add_option("NODE[/DEVICE]", *where, "The node, or one device of it: as thaw ps names them")->required()->check(CLI::Validator(check_place, ""));
  };
  add("cordon", "Let no new replica come to a node or a device", {"thaw cordon n1", "thaw cordon n1/cuda3"});
  add("drain", "The same, and let the replicas there end once their requests have", {"thaw drain n1/cuda3"});
  add("uncordon", "Take a cordon or a drain back", {"thaw uncordon n1/cuda3"});
}

}  // namespace thaw::cli
