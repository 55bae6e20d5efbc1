#include <memory>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/commands.h"
#include "cli/json.h"

namespace thaw::cli {
namespace {

int erase_tenant(Context& context, const std::string& name) {
  const auto body = context.call({"POST", "/admin/v1/tenants/" + percent_encode(name) + "/erase", ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  context.out << fmt::format("erased tenant {}: {} rows of usage removed", name, count_of(*answer, "usage_rows_removed"));
  if (const std::string kept_as = text_of(*answer, "kept_as"); !kept_as.empty())
    context.out << fmt::format(", {} daily sums stay as {}", count_of(*answer, "usage_days_kept"), kept_as);
  context.out << (flag_of(*answer, "audit_key_destroyed") ? ", its addresses in the audit log cannot be read any more" : "") << '\n';
  return kExitOk;
}

}  // namespace

void add_erase_command(Commands& commands) {
  auto tenant = std::make_shared<std::string>();
  CLI::App* command = commands.add("erase", "Forget a tenant: its rows of usage, and where its callers came from in the audit log", "The server's JSON",
                                   {"thaw erase acme"}, [tenant](Context& context) { return erase_tenant(context, *tenant); });
  command->add_option("TENANT", *tenant, "The tenant; cannot be taken back")->required();
}

}  // namespace thaw::cli
