#include "store/usage.h"

#include <charconv>
#include <chrono>

#include <fmt/format.h>

namespace thaw::store {

const char* to_string(UsageOutcome outcome) {
  switch (outcome) {
    case UsageOutcome::ok: return "ok";
    case UsageOutcome::failed: return "failed";
    case UsageOutcome::refused: return "refused";
    case UsageOutcome::cancelled: return "cancelled";
    case UsageOutcome::interrupted: return "interrupted";
  }
  return "ok";
}

const char* to_string(UsageWay way) {
  switch (way) {
    case UsageWay::warm: return "warm";
    case UsageWay::woken: return "wake";
    case UsageWay::restored: return "restore";
    case UsageWay::cold: return "cold";
  }
  return "warm";
}

void UsageTotals::add(const UsageRow& row) {
  ++requests;
  switch (row.outcome) {
    case UsageOutcome::ok: ++ok; break;
    case UsageOutcome::failed: ++failed; break;
    case UsageOutcome::refused: ++refused; break;
    case UsageOutcome::cancelled: ++cancelled; break;
    case UsageOutcome::interrupted: ++interrupted; break;
  }
  switch (row.way) {
    case UsageWay::warm: break;
    case UsageWay::woken: ++woken; break;
    case UsageWay::restored: ++restored; break;
    case UsageWay::cold: ++cold; break;
  }
  prompt_tokens += row.prompt_tokens;
  completion_tokens += row.completion_tokens;
  wait_us += row.wait_us;
  service_us += row.service_us;
  start_us += row.start_us;
}

void UsageTotals::add(const UsageTotals& other) {
  requests += other.requests;
  ok += other.ok;
  failed += other.failed;
  refused += other.refused;
  cancelled += other.cancelled;
  interrupted += other.interrupted;
  cold += other.cold;
  restored += other.restored;
  woken += other.woken;
  prompt_tokens += other.prompt_tokens;
  completion_tokens += other.completion_tokens;
  wait_us += other.wait_us;
  service_us += other.service_us;
  start_us += other.start_us;
}

std::optional<UsageBy> parse_usage_by(std::string_view text) {
  for (const UsageBy by : {UsageBy::model, UsageBy::tenant, UsageBy::day, UsageBy::key})
    if (text == to_string(by)) return by;
  return std::nullopt;
}

const char* to_string(UsageBy by) {
  switch (by) {
    case UsageBy::model: return "model";
    case UsageBy::tenant: return "tenant";
    case UsageBy::day: return "day";
    case UsageBy::key: return "key";
  }
  return "model";
}

base::Result<std::int64_t> parse_day(std::string_view text) {
  const auto wrong = [&] {
    return base::Error{base::ErrorKind::invalid, fmt::format("\"{}\" is no day; write it like 2026-11-25 (UTC)", text.substr(0, 32))};
  };
  const auto number = [](std::string_view digits, int& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc{} && end == digits.data() + digits.size() && digits.front() != '-';
  };
  int year = 0;
  int month = 0;
  int day = 0;
  if (text.size() != 10 || text[4] != '-' || text[7] != '-' || !number(text.substr(0, 4), year) || !number(text.substr(5, 2), month) ||
      !number(text.substr(8, 2), day))
    return wrong();
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return wrong();
  return std::chrono::sys_days(date).time_since_epoch().count();
}

std::string format_day(std::int64_t day) {
  const std::chrono::year_month_day date{std::chrono::sys_days(std::chrono::days(day))};
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()), static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
}

}  // namespace thaw::store
