#include <cctype>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/table.h"
#include "store/usage.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;
using Align = Table::Align;

constexpr std::size_t kPage = 5'000;

struct UsageFlags {
  std::string by = "model";
  std::string since, until;
  bool csv = false;
  bool requests = false;
};

std::string query_of(const UsageFlags& flags) {
  std::string query;
  if (!flags.since.empty()) query += "&since=" + percent_encode(flags.since);
  if (!flags.until.empty()) query += "&until=" + percent_encode(flags.until);
  return query;
}

/// As RFC 4180 wants it. A text that a spreadsheet would take for a formula is kept from that.
std::string csv_text(const std::string& text) {
  const bool formula = !text.empty() && std::string_view("=+-@\t\r").find(text.front()) != std::string_view::npos;
  if (!formula && text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = formula ? "\"'" : "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string csv_value(const json::value* value) {
  if (value == nullptr || value->is_null()) return {};
  if (value->is_string()) return csv_text(std::string(value->get_string()));
  if (value->is_double()) return fmt::format("{:.6f}", value->get_double());
  return json::serialize(*value);
}

void print_csv_line(Context& context, const std::vector<std::string>& cells) {
  std::string line;
  for (const std::string& cell : cells) line += (line.empty() && &cell == &cells.front() ? "" : ",") + cell;
  context.out << line << "\r\n";
}

void print_csv(Context& context, const std::vector<const json::object*>& objects, const std::vector<std::string>& columns, const std::string& currency) {
  for (const json::object* object : objects) {
    std::vector<std::string> cells;
    for (const std::string& column : columns) cells.push_back(csv_value(object->if_contains(column)));
    cells.push_back(csv_text(currency));
    print_csv_line(context, cells);
  }
}

std::vector<std::string> with(std::vector<std::string> columns, std::string last) {
  columns.push_back(std::move(last));
  return columns;
}

std::string seconds(const json::object& object, std::string_view ms_key) { return fmt::format("{:.1f}", number_of(object, ms_key).value_or(0) / 1e3); }

void print_table(Context& context, const std::vector<const json::object*>& groups, const std::string& by, const std::string& currency) {
  std::string title = by;
  for (char& c : title) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  std::vector<Table::Column> columns{{title},
                                     {"REQUESTS", Align::right},
                                     {"NOT OK", Align::right},
                                     {"PROMPT", Align::right},
                                     {"COMPLETION", Align::right},
                                     {"COLD", Align::right},
                                     {"SERVICE_S", Align::right},
                                     {"START_S", Align::right},
                                     {"WAIT_S", Align::right}};
  if (!currency.empty()) columns.push_back({"COST_" + currency, Align::right});
  Table table(columns);
  for (const json::object* group : groups) {
    const std::uint64_t cold = count_of(*group, "cold_starts") + count_of(*group, "restores") + count_of(*group, "wakes");
    std::vector<Table::Cell> cells{{text_of(*group, by)},
                                   {std::to_string(count_of(*group, "requests"))},
                                   {std::to_string(count_of(*group, "requests") - count_of(*group, "ok"))},
                                   {std::to_string(count_of(*group, "prompt_tokens"))},
                                   {std::to_string(count_of(*group, "completion_tokens"))},
                                   {std::to_string(cold)},
                                   {seconds(*group, "service_ms")},
                                   {seconds(*group, "start_ms")},
                                   {seconds(*group, "wait_ms")}};
    if (!currency.empty()) cells.push_back({fmt::format("{:.4f}", number_of(*group, "cost").value_or(0))});
    table.add(std::move(cells));
  }
  context.out << table.render(context.terminal.colours);
}

/// What makes the sums less than what was used.
void warn_of_gaps(Context& context, const json::object& answer) {
  if (const std::uint64_t lost = count_of(answer, "rows_lost"); lost > 0)
    context.err << fmt::format("thaw: {} requests since the server's start could not be recorded; its log says why\n", lost);
  if (const std::string why = text_of(answer, "incomplete"); !why.empty()) context.err << "thaw: the latest requests are not in it yet: " << why << '\n';
}

int sums(Context& context, const UsageFlags& flags) {
  const auto body = context.call({"GET", "/admin/v1/usage?by=" + flags.by + query_of(flags), ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  const auto groups = objects_of(*answer, "groups");
  const std::string currency = text_of(*answer, "currency");
  warn_of_gaps(context, *answer);
  if (!flags.csv) {
    print_table(context, groups, flags.by, currency);
    return kExitOk;
  }
  const std::vector<std::string> columns{flags.by,       "requests",      "ok",                "failed",      "refused",  "cancelled",
                                         "interrupted",  "prompt_tokens", "completion_tokens", "cold_starts", "restores", "wakes",
                                         "wait_ms",      "service_ms",    "start_ms",          "cost"};
  print_csv_line(context, with(columns, "currency"));
  print_csv(context, groups, columns, currency);
  return kExitOk;
}

/// Page after page, so that neither side holds more than one.
int requests(Context& context, const UsageFlags& flags) {
  const std::vector<std::string> columns{"request",       "arrived_unix_ms",   "ended_unix_ms", "tenant",     "key",      "model", "outcome", "way", "dispatched", "status",
                                         "prompt_tokens", "completion_tokens", "wait_ms",       "service_ms", "start_ms", "cost"};
  if (!context.json) print_csv_line(context, with(columns, "currency"));
  std::uint64_t after = 0;
  while (true) {
    const auto body = context.call({"GET", fmt::format("/admin/v1/usage/requests?limit={}&after={}{}", kPage, after, query_of(flags)), ""});
    if (!body.ok()) return context.fail(body.error());
    const auto answer = parse_object(*body, "the server");
    if (!answer.ok()) return context.fail(answer.error());
    const auto rows = objects_of(*answer, "requests");
    if (context.json) {
      for (const json::object* row : rows) context.out << json::serialize(*row) << '\n';
    } else {
      print_csv(context, rows, columns, text_of(*answer, "currency"));
    }
    if (after == 0) warn_of_gaps(context, *answer);
    after = count_of(*answer, "next");
    if (after == 0) return kExitOk;
  }
}

std::string check_day(const std::string& text) {
  const auto day = store::parse_day(text);
  return day.ok() ? "" : day.error().message;
}

}  // namespace

void add_usage_command(Commands& commands) {
  auto flags = std::make_shared<UsageFlags>();
  CLI::App* command = commands.add(
      "usage", "Say who used what: requests, tokens, device time, cost", "The server's JSON; with --requests one object a line",
      {"thaw usage", "thaw usage --by tenant --since 2026-11-01 --until 2026-12-01 --csv > november.csv", "thaw usage --requests > requests.csv"},
      [flags](Context& context) { return flags->requests ? requests(context, *flags) : sums(context, *flags); });
  command->add_option("--by", flags->by, "What to sum up by: model, tenant, day or key")->check(CLI::IsMember({"model", "tenant", "day", "key"}));
  command->add_option("--since", flags->since, "From this day (UTC) on, like 2026-11-01")->check(CLI::Validator(check_day, "DAY"));
  command->add_option("--until", flags->until, "Days before this one")->check(CLI::Validator(check_day, "DAY"));
  command->add_flag("--csv", flags->csv, "Print CSV");
  command->add_flag("--requests", flags->requests, "Each request instead of sums, as CSV; as far back as usage.retentionDays");
}

}  // namespace thaw::cli
