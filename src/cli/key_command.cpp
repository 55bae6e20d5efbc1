#include <charconv>
#include <chrono>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/tenancy.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/table.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;
using Align = Table::Align;

constexpr std::int64_t kSecondsPerDay = 86'400;

struct KeyFlags {
  std::string act, id, name, role;
  std::vector<std::string> models;
  std::optional<std::string> expires, grace;
  bool platform = false, all = false;
};

/// "30d", or what base::parse_duration reads, in whole seconds.
base::Result<std::int64_t> seconds_of(const std::string& text) {
  std::int64_t days = 0;
  const char* const end = text.data() + text.size();
  if (text.ends_with('d') && std::from_chars(text.data(), end - 1, days).ptr == end - 1 && days >= 0 &&
      days <= kSecondsPerDay)
    return days * kSecondsPerDay;
  THAW_ASSIGN_OR_RETURN(const base::Duration duration, base::parse_duration(text));
  return base::duration_cast<base::Seconds>(duration).count();
}

std::string check_time(const std::string& text) {
  const auto seconds = seconds_of(text);
  return seconds.ok() ? "" : "\"" + text + "\" is no duration; write it like 30d, 12h or 30m";
}

double now_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

std::string age(const json::object& key, std::string_view field, const char* absent) {
  const auto then = number_of(key, field);
  return then ? format_age(base::Millis(static_cast<std::int64_t>(now_ms() - *then))) : absent;
}

/// "in 12d", "3h ago", "never".
std::string end_of(const json::object& key) {
  const auto then = number_of(key, "expires_unix_ms");
  if (!then) return "never";
  const double left_ms = *then - now_ms();
  const std::string span = format_age(base::Millis(static_cast<std::int64_t>(left_ms < 0 ? -left_ms : left_ms)));
  return left_ms < 0 ? span + " ago" : "in " + span;
}

std::string models_of(const json::object& key) {
  std::vector<std::string> models;
  if (const auto* list = key.if_contains("models"); list != nullptr && list->is_array())
    for (const json::value& model : list->get_array())
      if (model.is_string()) models.emplace_back(model.get_string());
  return models.empty() ? "all" : fmt::format("{}", fmt::join(models, ","));
}

int list_keys(Context& context, bool all) {
  const auto body = context.call({"GET", "/admin/v1/keys", ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  Table table({{"ID", Align::right},
               {"NAME"},
               {"TENANT"},
               {"ROLE"},
               {"MODELS"},
               {"STATE"},
               {"AGE", Align::right},
               {"USED", Align::right},
               {"EXPIRES"}});
  for (const json::object* key : objects_of(*answer, "keys")) {
    const std::string state = text_of(*key, "state");
    if (state != "live" && !all) continue;
    const bool platform = flag_of(*key, "platform");
    table.add({{std::to_string(count_of(*key, "id"))},
               {text_of(*key, "name"), Style::bold},
               {platform ? "(platform)" : text_of(*key, "tenant")},
               {text_of(*key, "role")},
               {models_of(*key)},
               {state, state == "live" ? Style::green : Style::dim},
               {age(*key, "created_unix_ms", "-")},
               {age(*key, "last_used_unix_ms", "never")},
               {end_of(*key)}});
  }
  context.out << table.render(context.terminal.colours);
  return kExitOk;
}

int print_new_key(Context& context, const base::Result<std::string>& body) {
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  context.err << fmt::format("key {} of {}: {}, expires {}. It is shown this once:\n", count_of(*answer, "id"),
                             flag_of(*answer, "platform") ? "the platform" : "tenant " + text_of(*answer, "tenant"),
                             text_of(*answer, "role"), end_of(*answer));
  context.out << text_of(*answer, "key") << '\n';
  return kExitOk;
}

int create_key(Context& context, const KeyFlags& flags) {
  json::object body{{"role", flags.role}};
  if (!flags.name.empty()) body["name"] = flags.name;
  if (flags.platform) body["platform"] = true;
  if (!flags.models.empty()) body["models"] = json::array(flags.models.begin(), flags.models.end());
  if (flags.expires) body["expires_in_s"] = *seconds_of(*flags.expires);
  return print_new_key(context, context.call({"POST", "/admin/v1/keys", json::serialize(body)}));
}

int rotate_key(Context& context, const KeyFlags& flags) {
  json::object body;
  if (flags.grace) body["grace_s"] = *seconds_of(*flags.grace);
  return print_new_key(
      context, context.call({"POST", "/admin/v1/keys/" + percent_encode(flags.id) + "/rotate", json::serialize(body)}));
}

int revoke_key(Context& context, const KeyFlags& flags) {
  const auto body = context.call({"DELETE", "/admin/v1/keys/" + percent_encode(flags.id), ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  context.out << "revoked key " << flags.id << "; what ran with it is cut off\n";
  return kExitOk;
}

int run_key(Context& context, const KeyFlags& flags) {
  const auto usage = [&context](const std::string& message) {
    context.fail({base::ErrorKind::invalid, message});
    return static_cast<int>(kExitUsage);
  };
  if (flags.act == "ls") return list_keys(context, flags.all);
  if (flags.act == "create") {
    if (flags.role.empty()) return usage("which role? thaw key create --role admin|deployer|inference|read-only");
    return create_key(context, flags);
  }
  if (flags.id.empty())
    return usage(fmt::format("which key? `thaw key ls` lists them; then: thaw key {} ID", flags.act));
  return flags.act == "rotate" ? rotate_key(context, flags) : revoke_key(context, flags);
}

}  // namespace

void add_key_command(Commands& commands) {
  auto flags = std::make_shared<KeyFlags>();
  CLI::App* command = commands.add("key", "Make API keys, exchange and revoke them", "The server's JSON",
                                   {"thaw key create --tenant acme --role inference --models stories --expires 30d",
                                    "thaw key create --platform --role read-only --name prometheus", "thaw key ls",
                                    "thaw key rotate 7 --grace 1h", "thaw key revoke 7"},
                                   [flags](Context& context) { return run_key(context, *flags); });
  command
      ->add_option("ACT", flags->act, "create, ls, rotate: another one in its place, revoke: at once, also what runs")
      ->required()
      ->check(CLI::IsMember({"create", "ls", "rotate", "revoke"}).description(""));
  command->add_option("ID", flags->id, "rotate, revoke: the key's number");
  commands.add_tenant_option(command);
  command->add_option("--role", flags->role, "create: what it is good for")
      ->type_name("admin|deployer|inference|read-only")
      ->check(CLI::IsMember({"admin", "deployer", "inference", "read-only"}).description(""));
  command->add_option("--models", flags->models, "create: for these models alone")->delimiter(',')->type_name("A,B");
  command->add_option("--expires", flags->expires, "create: ends by itself after so long (default: never)")
      ->type_name("TIME")
      ->check(CLI::Validator(check_time, ""));
  command->add_option("--name", flags->name, "create: for people to know it by");
  command->add_flag("--platform", flags->platform, "create: not of a tenant, but of all and of the server");
  command->add_option("--grace", flags->grace, "rotate: the old one is good for so long yet (default: not at all)")
      ->type_name("TIME")
      ->check(CLI::Validator(check_time, ""));
  command->add_flag("--all", flags->all, "ls: revoked and expired ones too");
}

}  // namespace thaw::cli
