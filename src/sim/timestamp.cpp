// Times as traces write them.
#include <charconv>
#include <chrono>
#include <cmath>

#include "sim/trace.h"

namespace thaw::sim {

namespace {

/// Takes `digits` digits, or as many as there are where that is 0, from the front of `text`.
bool take_number(std::string_view& text, std::size_t digits, int& into) {
  const std::size_t count = digits == 0 ? std::min(text.find_first_not_of("0123456789"), text.size()) : digits;
  if (count == 0 || text.size() < count) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + count, into);
  if (error != std::errc{} || end != text.data() + count || into < 0) return false;
  text.remove_prefix(count);
  return true;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

/// ".9799600": any number of digits; those beyond a nanosecond do not count.
bool take_fraction(std::string_view& text, std::int64_t& nanoseconds) {
  nanoseconds = 0;
  if (!take(text, '.')) return true;
  std::int64_t digit = 100'000'000;
  std::size_t count = 0;
  for (; count < text.size() && text[count] >= '0' && text[count] <= '9'; ++count, digit /= 10)
    nanoseconds += (text[count] - '0') * digit;
  text.remove_prefix(count);
  return count > 0;
}

/// "Z", "+02:00", "+0200" or nothing: minutes east of Greenwich.
bool take_zone(std::string_view& text, int& minutes) {
  minutes = 0;
  if (text.empty() || take(text, 'Z') || take(text, 'z')) return true;
  const int sign = text.front() == '-' ? -1 : 1;
  if (!take(text, '+') && !take(text, '-')) return false;
  int hours = 0, rest = 0;
  if (!take_number(text, 2, hours)) return false;
  take(text, ':');
  if (!text.empty() && !take_number(text, 2, rest)) return false;
  minutes = sign * (hours * 60 + rest);
  return hours < 24 && rest < 60;
}

bool parse_date(std::string_view text, base::Duration& into) {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, zone = 0;
  std::int64_t fraction = 0;
  if (!take_number(text, 4, year) || !take(text, '-') || !take_number(text, 2, month) || !take(text, '-') ||
      !take_number(text, 2, day))
    return false;
  if (!take(text, ' ') && !take(text, 'T')) return false;
  if (!take_number(text, 2, hour) || !take(text, ':') || !take_number(text, 2, minute)) return false;
  if (take(text, ':') && (!take_number(text, 2, second) || !take_fraction(text, fraction))) return false;
  if (!take_zone(text, zone) || !text.empty()) return false;
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || year < 1970 || year > 2200 || hour > 23 || minute > 59 || second > 60) return false;
  into = std::chrono::sys_days(date).time_since_epoch() + std::chrono::hours(hour) +
         std::chrono::minutes(minute - zone) + std::chrono::seconds(second) + base::Duration(fraction);
  return true;
}

}  // namespace

base::Result<base::Duration> parse_time(std::string_view text) {
  constexpr double kMax_s = 9e9;  // as nanoseconds it must fit 63 bits
  base::Duration time{};
  if (parse_date(text, time)) return time;
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc{} && end == text.data() + text.size() && seconds >= 0 && seconds < kMax_s)
    return base::Duration(std::llround(seconds * 1e9));
  return base::Error{
      base::ErrorKind::invalid,
      "\"" + std::string(text.substr(0, 64)) + "\" is no time; write seconds, or a date like 2023-11-16 18:17:03.97"};
}

}  // namespace thaw::sim
