#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/tenancy.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/table.h"
#include "spec/tenant_spec.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;
using Align = Table::Align;

struct TenantFlags {
  std::string act, name;
  /// As given: a number, a size, or "none" for no limit.
  std::optional<std::string> models, devices, device_seconds, requests, tokens, concurrent, disk, weight, max_priority;
  std::vector<std::string> sources;
  bool no_sources = false;
};

std::string path_of(const std::string& name) {
  return "/admin/v1/tenants/" + percent_encode(name);
}

/// A value as the spec's YAML has it: its parser says what is wrong with it.
json::value scalar(const std::string& text) {
  boost::system::error_code error;
  json::value number = json::parse(text, error);
  return !error && number.is_number() ? number : json::value(text);
}

/// The spec of before with what the flags change.
json::object changed(json::object spec, const TenantFlags& flags) {
  json::object& quotas = spec["quotas"].is_object() ? spec["quotas"].get_object() : spec["quotas"].emplace_object();
  const auto set = [&](const char* key, const std::optional<std::string>& value) {
    if (!value) return;
    if (*value == "none")
      quotas.erase(key);
    else
      quotas[key] = scalar(*value);
  };
  set("models", flags.models);
  set("devices", flags.devices);
  set("deviceSecondsPerDay", flags.device_seconds);
  set("requestsPerSecond", flags.requests);
  set("tokensPerMinute", flags.tokens);
  set("concurrentRequests", flags.concurrent);
  set("disk", flags.disk);
  if (flags.weight) spec["weight"] = scalar(*flags.weight);
  if (flags.max_priority) spec["maxPriority"] = *flags.max_priority;
  if (flags.no_sources) spec["sources"] = json::array();
  if (!flags.sources.empty()) spec["sources"] = json::array(flags.sources.begin(), flags.sources.end());
  return spec;
}

std::string document(const std::string& name, json::object spec) {
  return json::serialize(json::object{
      {"apiVersion", "thaw/v1"}, {"kind", "Tenant"}, {"metadata", {{"name", name}}}, {"spec", std::move(spec)}});
}

/// "20 requests/s, 5 models"; "no limits".
std::string quotas_line(const json::object& quotas) {
  std::string line;
  const auto add = [&](const std::string& part) { line += (line.empty() ? "" : ", ") + part; };
  const auto count = [&](const char* key, const char* unit) {
    if (const auto number = number_of(quotas, key)) add(fmt::format("{} {}", *number, unit));
  };
  count("models", "models");
  count("devices", "devices");
  count("deviceSecondsPerDay", "device-seconds/day");
  count("requestsPerSecond", "requests/s");
  count("tokensPerMinute", "tokens/min");
  count("concurrentRequests", "at once");
  if (quotas.contains("disk")) add(base::format_bytes(count_of(quotas, "disk")) + " of disk");
  return line.empty() ? "no limits" : line;
}

const json::object& spec_of(const json::object& tenant) {
  static const json::object none;
  const auto* spec = object_of(tenant, "spec");
  return spec == nullptr ? none : *spec;
}

void print_tenant(const json::object& tenant, Context& context) {
  const auto line = [&context](std::string_view key, const std::string& value) {
    context.out << styled(fmt::format("{:<14}", key), Style::dim, context.terminal.colours) << value << '\n';
  };
  const json::object& spec = spec_of(tenant);
  line("tenant", text_of(tenant, "name"));
  if (const auto* quotas = object_of(spec, "quotas")) line("quotas", quotas_line(*quotas));
  line("weight", fmt::format("{}", number_of(spec, "weight").value_or(1)));
  if (spec.contains("maxPriority")) line("max priority", text_of(spec, "maxPriority"));
  line("models", std::to_string(count_of(tenant, "models")));
  line("keys", std::to_string(count_of(tenant, "keys")));
  line("requests", fmt::format("{} running, {} refused", count_of(tenant, "running_requests"),
                               count_of(tenant, "refused_requests")));
  line("images", base::format_bytes(count_of(tenant, "disk_bytes")));
  if (const auto* sources = spec.if_contains("sources"); sources != nullptr && sources->is_array())
    for (const json::value& source : sources->get_array())
      line("may read", source.is_string() ? std::string(source.get_string()) : "");
}

int list_tenants(Context& context) {
  const auto body = context.call({"GET", "/admin/v1/tenants", ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  Table table({{"TENANT"},
               {"MODELS", Align::right},
               {"KEYS", Align::right},
               {"RUNNING", Align::right},
               {"REFUSED", Align::right},
               {"WEIGHT", Align::right},
               {"QUOTAS"}});
  for (const json::object* tenant : objects_of(*answer, "tenants")) {
    const json::object& spec = spec_of(*tenant);
    const auto* quotas = object_of(spec, "quotas");
    table.add({{text_of(*tenant, "name"), Style::bold},
               {std::to_string(count_of(*tenant, "models"))},
               {std::to_string(count_of(*tenant, "keys"))},
               {std::to_string(count_of(*tenant, "running_requests"))},
               {std::to_string(count_of(*tenant, "refused_requests"))},
               {fmt::format("{}", number_of(spec, "weight").value_or(1))},
               {quotas == nullptr ? "" : quotas_line(*quotas)}});
  }
  context.out << table.render(context.terminal.colours);
  return kExitOk;
}

int show(Context& context, const HttpRequest& request) {
  const auto body = context.call(request);
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  print_tenant(*answer, context);
  return kExitOk;
}

int set_tenant(Context& context, const TenantFlags& flags) {
  const auto body = context.call({"GET", path_of(flags.name), ""});
  if (!body.ok()) return context.fail(body.error());
  const auto before = parse_object(*body, "the server");
  if (!before.ok()) return context.fail(before.error());
  return show(context, {"PUT", path_of(flags.name), document(flags.name, changed(spec_of(*before), flags))});
}

int remove_tenant(Context& context, const std::string& name) {
  const auto body = context.call({"DELETE", path_of(name), ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  context.out << "removed tenant " << name << "; its keys are revoked\n";
  return kExitOk;
}

int erase_tenant(Context& context, const std::string& name) {
  const auto body = context.call({"POST", path_of(name) + "/erase", ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  context.out << fmt::format("erased tenant {}: {} rows of usage removed", name,
                             count_of(*answer, "usage_rows_removed"));
  if (const std::string kept_as = text_of(*answer, "kept_as"); !kept_as.empty())
    context.out << fmt::format(", {} daily sums stay as {}", count_of(*answer, "usage_days_kept"), kept_as);
  context.out << (flag_of(*answer, "audit_key_destroyed") ? ", its addresses in the audit log cannot be read any more"
                                                          : "")
              << '\n';
  return kExitOk;
}

int run_tenant(Context& context, const TenantFlags& flags) {
  if (flags.act == "ls") return list_tenants(context);
  if (flags.name.empty()) {
    context.fail({base::ErrorKind::invalid,
                  fmt::format("which tenant? `thaw tenant ls` lists them; then: thaw tenant {} NAME", flags.act)});
    return kExitUsage;
  }
  if (flags.act == "create")
    return show(context, {"POST", "/admin/v1/tenants", document(flags.name, changed({}, flags))});
  if (flags.act == "show") return show(context, {"GET", path_of(flags.name), ""});
  if (flags.act == "set") return set_tenant(context, flags);
  if (flags.act == "erase") return erase_tenant(context, flags.name);
  return remove_tenant(context, flags.name);
}

}  // namespace

void add_tenant_command(Commands& commands) {
  auto flags = std::make_shared<TenantFlags>();
  CLI::App* command =
      commands.add("tenant", "Make tenants, give them quotas, remove and forget them", "The server's JSON",
                   {"thaw tenant create acme --requests-per-second 20 --models 5 --source /srv/models/acme",
                    "thaw tenant ls", "thaw tenant show acme", "thaw tenant set acme --models none --weight 2",
                    "thaw tenant rm acme", "thaw tenant erase acme"},
                   [flags](Context& context) { return run_tenant(context, *flags); });
  command
      ->add_option("ACT", flags->act,
                   "create, ls, show, set: change what is given, rm: remove it, its keys are revoked; erase: forget "
                   "its rows of usage, and where its callers came "
                   "from in the audit log, for good")
      ->required()
      ->check(CLI::IsMember({"create", "ls", "show", "set", "rm", "erase"}).description(""));
  command->add_option("NAME", flags->name, "The tenant");
  const auto limit = [command](const char* name, std::optional<std::string>& into, const char* description) {
    command->add_option(name, into, description)->type_name("N|none");
  };
  limit("--models", flags->models, "At most so many models");
  limit("--devices", flags->devices, "Its replicas are on so many devices at once, at most");
  limit("--device-seconds-per-day", flags->device_seconds, "Its replicas hold devices for so long a day, at most");
  limit("--requests-per-second", flags->requests, "Requests to models");
  limit("--tokens-per-minute", flags->tokens, "Of prompts and answers");
  limit("--concurrent-requests", flags->concurrent, "Waiting and running at once");
  command->add_option("--disk", flags->disk, "Images of its models")->type_name("SIZE|none");
  command->add_option("--weight", flags->weight, "Its share where tenants wait for the same devices (default: 1)")
      ->type_name("N");
  command
      ->add_option("--max-priority", flags->max_priority,
                   "The highest that its requests may ask for and its models may have (default: normal)")
      ->type_name("low|normal|high");
  command
      ->add_option("--source", flags->sources,
                   "A directory on the node from which it may deploy; may be given more than once")
      ->type_name("DIR");
  command->add_flag("--no-sources", flags->no_sources, "set: it deploys nothing by itself any more");
}

}  // namespace thaw::cli
