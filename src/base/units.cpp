#include "base/units.h"

#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace thaw::base {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr std::array<Unit, 18> kByteUnits{{{"", 1},
                                           {"B", 1},
                                           {"k", 1e3},
                                           {"kB", 1e3},
                                           {"K", 1e3},
                                           {"KB", 1e3},
                                           {"M", 1e6},
                                           {"MB", 1e6},
                                           {"G", 1e9},
                                           {"GB", 1e9},
                                           {"T", 1e12},
                                           {"TB", 1e12},
                                           {"Ki", 1024.0},
                                           {"KiB", 1024.0},
                                           {"Mi", 1048576.0},
                                           {"MiB", 1048576.0},
                                           {"Gi", 1073741824.0},
                                           {"GiB", 1073741824.0}}};
constexpr std::array<Unit, 2> kTebi{{{"Ti", 1099511627776.0}, {"TiB", 1099511627776.0}}};

constexpr std::array<Unit, 6> kTimeUnits{{{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
constexpr double kMaxDuration_ns = 365.0 * 24 * 3600 * 1e9;
constexpr double kMaxBytes = 9.2e18;

/// Takes a decimal number off the front of `text`; false when there is none.
bool take_number(std::string_view& text, double& number) {
  if (text.empty() || text.front() < '0' || text.front() > '9') return false;  // from_chars would take "-", "inf", "nan"
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

const Unit* find_unit(std::string_view name) {
  for (const Unit& unit : kByteUnits)
    if (unit.name == name) return &unit;
  for (const Unit& unit : kTebi)
    if (unit.name == name) return &unit;
  return nullptr;
}

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  const std::string whole(text);
  double number = 0;
  if (!take_number(text, number))
    return Error{ErrorKind::invalid, "\"" + whole + "\" is no size; write it like 64MiB or 2GiB"};
  const Unit* unit = find_unit(text);
  if (unit == nullptr)
    return Error{ErrorKind::invalid,
                 "\"" + whole + "\" has the unknown unit \"" + std::string(text) + "\"; use B, kB, MB, GB, KiB, MiB, GiB or TiB"};
  const double bytes = number * unit->factor;
  if (bytes > kMaxBytes) return Error{ErrorKind::invalid, "\"" + whole + "\" is too large"};
  return static_cast<std::uint64_t>(std::llround(bytes));
}

Result<Duration> parse_duration(std::string_view text) {
  const std::string whole(text);
  const Error wrong{ErrorKind::invalid, "\"" + whole + "\" is no duration; write it like 300ms, 5s, 1m30s or 2h"};
  if (text.empty()) return wrong;
  double total_ns = 0;
  while (!text.empty()) {
    double number = 0;
    if (!take_number(text, number)) return wrong;
    std::size_t letters = 0;
    while (letters < text.size() && text[letters] >= 'a' && text[letters] <= 'z') ++letters;
    const std::string_view name = text.substr(0, letters);
    text.remove_prefix(letters);
    double factor = 0;
    for (const Unit& unit : kTimeUnits)
      if (unit.name == name) factor = unit.factor;
    if (factor == 0) return wrong;
    total_ns += number * factor;
  }
  if (total_ns > kMaxDuration_ns) return Error{ErrorKind::invalid, "\"" + whole + "\" is longer than 365 days"};
  return Duration(std::llround(total_ns));
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> names{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < names.size()) {
    value /= 1024;
    ++unit;
  }
  const double rounded = std::round(value * 10) / 10;
  return rounded == std::floor(rounded) ? fmt::format("{:.0f}{}", rounded, names[unit])
                                        : fmt::format("{:.1f}{}", rounded, names[unit]);
}

std::string format_duration(Duration duration) {
  const auto ns = duration.count();
  const auto short_form = [](double value, const char* unit) {
    const double rounded = std::round(value * 10) / 10;
    return rounded == std::floor(rounded) ? fmt::format("{:.0f}{}", rounded, unit) : fmt::format("{:.1f}{}", rounded, unit);
  };
  if (ns < 1000) return fmt::format("{}ns", ns);
  if (ns < 1'000'000) return short_form(static_cast<double>(ns) / 1e3, "us");
  if (ns < 1'000'000'000) return short_form(static_cast<double>(ns) / 1e6, "ms");
  if (ns < 60'000'000'000) return short_form(static_cast<double>(ns) / 1e9, "s");
  const std::int64_t seconds = ns / 1'000'000'000;
  if (seconds < 3600) return seconds % 60 == 0 ? fmt::format("{}m", seconds / 60) : fmt::format("{}m{}s", seconds / 60, seconds % 60);
  const std::int64_t minutes = seconds / 60;
  return minutes % 60 == 0 ? fmt::format("{}h", minutes / 60) : fmt::format("{}h{}m", minutes / 60, minutes % 60);
}

}  // namespace thaw::base
