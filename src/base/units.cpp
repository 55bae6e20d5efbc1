#include "base/units.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>

namespace thaw::base {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;  ///< bytes or nanoseconds
};

constexpr std::array kByteUnits{Unit{"", 1},
                                Unit{"B", 1},
                                Unit{"k", 1'000},
                                Unit{"kB", 1'000},
                                Unit{"K", 1'000},
                                Unit{"KB", 1'000},
                                Unit{"M", 1'000'000},
                                Unit{"MB", 1'000'000},
                                Unit{"G", 1'000'000'000},
                                Unit{"GB", 1'000'000'000},
                                Unit{"T", 1'000'000'000'000},
                                Unit{"TB", 1'000'000'000'000},
                                Unit{"Ki", 1ULL << 10},
                                Unit{"KiB", 1ULL << 10},
                                Unit{"Mi", 1ULL << 20},
                                Unit{"MiB", 1ULL << 20},
                                Unit{"Gi", 1ULL << 30},
                                Unit{"GiB", 1ULL << 30},
                                Unit{"Ti", 1ULL << 40},
                                Unit{"TiB", 1ULL << 40}};

constexpr std::array kTimeUnits{Unit{"ns", 1},
                                Unit{"us", 1'000},
                                Unit{"ms", 1'000'000},
                                Unit{"s", 1'000'000'000},
                                Unit{"m", 60'000'000'000},
                                Unit{"h", 3'600'000'000'000}};

constexpr std::uint64_t kMaxDuration_ns = 365ULL * 24 * 3600 * 1'000'000'000;
constexpr std::uint64_t kMaxBytes = std::numeric_limits<std::int64_t>::max();

/// A decimal number in two parts, so that whole numbers stay exact where a double would round them (above 2^53).
struct Decimal {
  std::uint64_t whole = 0;
  double fraction = 0;  ///< 0 <= fraction < 1

  /// This many units, rounded; nothing when that is more than `limit`.
  [[nodiscard]] std::optional<std::uint64_t> times(std::uint64_t factor, std::uint64_t limit) const {
    const auto part = static_cast<std::uint64_t>(std::llround(fraction * static_cast<double>(factor)));
    if (part > limit || whole > (limit - part) / factor) return std::nullopt;
    return whole * factor + part;
  }
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Takes a decimal number ("12", "1.5") off the front of `text`; nothing when there is none. A number of more than 64
/// bits comes out as the largest there is, which every caller's limit refuses.
std::optional<Decimal> take_decimal(std::string_view& text) {
  if (text.empty() || !is_digit(text.front())) return std::nullopt;
  Decimal number;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number.whole);
  if (error == std::errc::result_out_of_range) number.whole = std::numeric_limits<std::uint64_t>::max();
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.size() >= 2 && text[0] == '.' && is_digit(text[1])) {
    double digit_value = 0.1;
    for (text.remove_prefix(1); !text.empty() && is_digit(text.front()); text.remove_prefix(1), digit_value /= 10)
      number.fraction += digit_value * (text.front() - '0');
  }
  return number;
}

template <std::size_t N>
const Unit* find_unit(const std::array<Unit, N>& units, std::string_view name) {
  for (const Unit& unit : units)
    if (unit.name == name) return &unit;
  return nullptr;
}

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  const std::string quoted = "\"" + std::string(text) + "\"";
  const auto number = take_decimal(text);
  if (!number) return Error{ErrorKind::invalid, quoted + " is no size; write it like 64MiB or 2GiB"};
  const Unit* unit = find_unit(kByteUnits, text);
  if (unit == nullptr)
    return Error{ErrorKind::invalid, quoted + " has the unknown unit \"" + std::string(text) +
                                         "\"; use B, kB, MB, GB, TB, KiB, MiB, GiB or TiB"};
  const auto bytes = number->times(unit->factor, kMaxBytes);
  if (!bytes) return Error{ErrorKind::invalid, quoted + " is too large; a size has at most 63 bits"};
  return *bytes;
}

Result<Duration> parse_duration(std::string_view text) {
  const std::string quoted = "\"" + std::string(text) + "\"";
  const Error wrong{ErrorKind::invalid, quoted + " is no duration; write it like 300ms, 5s, 1m30s or 2h"};
  const Error too_long{ErrorKind::invalid, quoted + " is longer than 365 days"};
  if (text.empty()) return wrong;
  std::uint64_t total_ns = 0;
  while (!text.empty()) {
    const auto number = take_decimal(text);
    if (!number) return wrong;
    std::size_t letters = 0;
    while (letters < text.size() && text[letters] >= 'a' && text[letters] <= 'z') ++letters;
    const Unit* unit = find_unit(kTimeUnits, text.substr(0, letters));
    if (unit == nullptr) return wrong;
    text.remove_prefix(letters);
    const auto part_ns = number->times(unit->factor, kMaxDuration_ns - total_ns);
    if (!part_ns) return too_long;
    total_ns += *part_ns;
  }
  return Duration(static_cast<Duration::rep>(total_ns));
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
    return rounded == std::floor(rounded) ? fmt::format("{:.0f}{}", rounded, unit)
                                          : fmt::format("{:.1f}{}", rounded, unit);
  };
  if (ns < 1000) return fmt::format("{}ns", ns);
  if (ns < 1'000'000) return short_form(static_cast<double>(ns) / 1e3, "us");
  if (ns < 1'000'000'000) return short_form(static_cast<double>(ns) / 1e6, "ms");
  if (ns < 60'000'000'000) return short_form(static_cast<double>(ns) / 1e9, "s");
  const std::int64_t seconds = ns / 1'000'000'000;
  if (seconds < 3600)
    return seconds % 60 == 0 ? fmt::format("{}m", seconds / 60) : fmt::format("{}m{}s", seconds / 60, seconds % 60);
  const std::int64_t minutes = seconds / 60;
  return minutes % 60 == 0 ? fmt::format("{}h", minutes / 60) : fmt::format("{}h{}m", minutes / 60, minutes % 60);
}

}  // namespace thaw::base
