// What requests used: sums, the single rows, and forgetting a tenant's.
#include <charconv>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "gateway/admin.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;
using base::Result;

struct Question {
  store::UsageBy by = store::UsageBy::model;
  store::UsageFilter filter;
  std::uint64_t after = 0;
  std::size_t limit = 1000;
};

base::Status read_number(std::string_view name, std::string_view text, std::uint64_t min, std::uint64_t max, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size() && value >= min && value <= max) return {};
  return base::Error{base::ErrorKind::invalid, fmt::format("{} must be a number from {} to {}", name, min, max)};
}

Result<Question> read_question(const Exchange& exchange) {
  Question question;
  if (!exchange.of_all_tenants()) question.filter.tenant = exchange.tenant().str();
  if (const auto by = exchange.query("by"); !by.empty()) {
    const auto known = store::parse_usage_by(by);
    if (!known) return base::Error{base::ErrorKind::invalid, "by must be model, tenant, day or key"};
    question.by = *known;
  }
  if (const auto since = exchange.query("since"); !since.empty()) {
    THAW_ASSIGN_OR_RETURN(question.filter.first_day, store::parse_day(since));
  }
  if (const auto until = exchange.query("until"); !until.empty()) {
    THAW_ASSIGN_OR_RETURN(const std::int64_t day, store::parse_day(until));
    question.filter.last_day = day - 1;
  }
  std::uint64_t limit = question.limit;
  if (const auto text = exchange.query("after"); !text.empty()) THAW_RETURN_IF_ERROR(read_number("after", text, 0, INT64_MAX, question.after));
  if (const auto text = exchange.query("limit"); !text.empty())
    THAW_RETURN_IF_ERROR(read_number("limit", text, 1, store::UsageDatabase::kMaxListed, limit));
  question.limit = limit;
  return question;
}

double ms(std::uint64_t us) { return static_cast<double>(us) / 1e3; }

/// Rounded to a millionth of the currency: what is behind that is the binary fractions' noise.
json::value cost_value(const spec::UsagePrices& prices, double cost) {
  if (prices.currency.empty()) return nullptr;
  return std::round(cost * 1e6) / 1e6;
}

json::value currency_of(const spec::UsagePrices& prices) { return prices.currency.empty() ? json::value(nullptr) : json::value(prices.currency); }

struct Group {
  store::UsageTotals totals;
  double cost = 0;
};

json::object describe(const std::string& by, const std::string& name, const Group& group, const spec::UsagePrices& prices) {
  const store::UsageTotals& totals = group.totals;
  return {{by, name},
          {"requests", totals.requests},
          {"ok", totals.ok},
          {"failed", totals.failed},
          {"refused", totals.refused},
          {"cancelled", totals.cancelled},
          {"interrupted", totals.interrupted},
          {"prompt_tokens", totals.prompt_tokens},
          {"completion_tokens", totals.completion_tokens},
          {"cold_starts", totals.cold},
          {"restores", totals.restored},
          {"wakes", totals.woken},
          {"wait_ms", ms(totals.wait_us)},
          {"service_ms", ms(totals.service_us)},
          {"start_ms", ms(totals.start_us)},
          {"cost", cost_value(prices, group.cost)}};
}

json::object describe(const store::UsageDatabase::Listed& listed, const spec::UsagePrices& prices) {
  const store::UsageRow& row = listed.row;
  return {{"seq", row.seq},
          {"request", listed.request.empty() ? json::value(nullptr) : json::value(listed.request)},
          {"arrived_unix_ms", row.arrived_unix_ms},
          {"ended_unix_ms", row.ended_unix_ms},
          {"tenant", row.tenant},
          {"key", row.key ? json::value(row.key.value()) : json::value(nullptr)},
          {"model", base::public_name(base::ModelName(row.model))},
          {"outcome", to_string(row.outcome)},
          {"way", to_string(row.way)},
          {"dispatched", row.dispatched},
          {"status", row.status},
          {"prompt_tokens", row.prompt_tokens},
          {"completion_tokens", row.completion_tokens},
          {"wait_ms", ms(row.wait_us)},
          {"service_ms", ms(row.service_us)},
          {"start_ms", ms(row.start_us)},
          {"cost", cost_value(prices, prices.cost(row.model, row.service_us + row.start_us, row.prompt_tokens, row.completion_tokens))}};
}

/// What has ended until now is to be counted; what cannot be stored at present is told by `pending`.
base::Status settle(const UsageServices& usage) { return usage.journal != nullptr ? usage.journal->flush() : base::Status{}; }

}  // namespace

net::Task<void> usage(Server& server, Exchange& exchange) {
  const auto question = read_question(exchange);
  if (!question.ok()) {
    co_await exchange.respond_error(from_error(question.error()));
    co_return;
  }
  const UsageServices& services = server.services().usage;
  base::Status settled;
  const auto sums = co_await server.services().files_worker.run([&] {
    settled = settle(services);
    return services.database.sums(question->by, question->filter);
  });
  if (!sums.ok()) {
    co_await exchange.respond_error(from_error(sums.error()));
    co_return;
  }
  const spec::UsagePrices& prices = server.config().usage.prices;
  std::map<std::string, Group> groups;
  for (const store::UsageSum& sum : *sums) {
    const base::ModelName model(sum.model);
    if (!exchange.sees(model)) continue;
    // To its own users a model has its own name; to those who see all, the one that is unique.
    Group& group = groups[question->by == store::UsageBy::model && !exchange.of_all_tenants() ? base::public_name(model) : sum.group];
    group.totals.add(sum.totals);
    group.cost += prices.cost(sum.model, sum.totals.service_us + sum.totals.start_us, sum.totals.prompt_tokens, sum.totals.completion_tokens);
  }
  json::array described;
  for (const auto& [name, group] : groups) described.push_back(describe(to_string(question->by), name, group, prices));
  const std::string body =
      json::serialize(json::object{{"by", to_string(question->by)},
                                   {"currency", currency_of(prices)},
                                   {"groups", std::move(described)},
                                   {"rows_lost", services.journal != nullptr ? services.journal->lost() : 0},
                                   {"incomplete", settled.ok() ? json::value(nullptr) : json::value(settled.error().message)}});
  co_await exchange.respond(200, "application/json", body);
}

net::Task<void> usage_requests(Server& server, Exchange& exchange) {
  const auto question = read_question(exchange);
  if (!question.ok()) {
    co_await exchange.respond_error(from_error(question.error()));
    co_return;
  }
  const UsageServices& services = server.services().usage;
  base::Status settled;
  const auto rows = co_await server.services().files_worker.run([&] {
    settled = settle(services);
    return services.database.rows(question->filter, question->after, question->limit);
  });
  if (!rows.ok()) {
    co_await exchange.respond_error(from_error(rows.error()));
    co_return;
  }
  const spec::UsagePrices& prices = server.config().usage.prices;
  json::array described;
  for (const auto& row : *rows)
    if (exchange.sees(base::ModelName(row.row.model))) described.push_back(describe(row, prices));
  const bool more = rows->size() == question->limit;
  const std::string body = json::serialize(json::object{{"currency", currency_of(prices)},
                                                        {"requests", std::move(described)},
                                                        {"next", more ? json::value(rows->back().position) : json::value(nullptr)},
                                                        {"incomplete", settled.ok() ? json::value(nullptr) : json::value(settled.error().message)}});
  co_await exchange.respond(200, "application/json", body);
}

net::Task<void> erase_tenant(Server& server, Exchange& exchange) {
  const UsageServices& services = server.services().usage;
  const std::string tenant(exchange.parameter());
  bool sealed = false;
  const auto erased = co_await server.services().store_worker.run([&]() -> Result<store::UsageDatabase::Erased> {
    THAW_RETURN_IF_ERROR(settle(services));
    THAW_ASSIGN_OR_RETURN(sealed, server.services().audit.shred(tenant));
    return services.database.erase_tenant(tenant);
  });
  if (!erased.ok()) {
    co_await exchange.respond_error(from_error(erased.error()));
    co_return;
  }
  const std::string body = json::serialize(
      json::object{{"erased", true},
                   {"audit_key_destroyed", sealed},
                   {"usage_rows_removed", erased->rows},
                   {"usage_days_kept", erased->days},
                   {"kept_as", erased->stands_as.empty() ? json::value(nullptr) : json::value(erased->stands_as)}});
  co_await exchange.respond(200, "application/json", body);
}

}  // namespace thaw::gateway::admin
