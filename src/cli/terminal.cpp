#include "cli/terminal.h"

#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/units.h"

namespace thaw::cli {
namespace {

bool locale_is_utf8(const Environment& environment) {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {  // the first that is set decides, as in setlocale(3)
    const auto value = environment(name);
    if (!value || value->empty()) continue;
    std::string lower = *value;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
    return lower.find("utf-8") != std::string::npos || lower.find("utf8") != std::string::npos;
  }
  return false;
}

const char* escape_for(Style style) {
  switch (style) {
    case Style::plain:
      return "";
    case Style::bold:
      return "\x1b[1m";
    case Style::dim:
      return "\x1b[2m";
    case Style::green:
      return "\x1b[32m";
    case Style::yellow:
      return "\x1b[33m";
    case Style::red:
      return "\x1b[31m";
  }
  return "";
}

}  // namespace

Terminal detect_terminal(const Environment& environment) {
  Terminal terminal;
  terminal.out_is_terminal = isatty(STDOUT_FILENO) != 0;
  terminal.err_is_terminal = isatty(STDERR_FILENO) != 0;
  const bool refused = !environment("NO_COLOR").value_or("").empty();
  const bool dumb = environment("TERM").value_or("dumb") == "dumb";
  terminal.colours = terminal.out_is_terminal && !refused && !dumb;
  terminal.utf8 = locale_is_utf8(environment);
  return terminal;
}

std::string styled(std::string_view text, Style style, bool colours) {
  if (!colours || style == Style::plain) return std::string(text);
  return fmt::format("{}{}\x1b[0m", escape_for(style), text);
}

std::string without_controls(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) continue;
    clean.push_back(c);
  }
  return clean;
}

std::size_t display_width(std::string_view text) {
  const auto starts_code_point = [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; };
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), starts_code_point));
}

std::string format_age(base::Duration age) {
  const auto seconds = base::duration_cast<base::Seconds>(age).count();
  if (seconds < 1) return "now";
  if (seconds < 60) return fmt::format("{}s", seconds);
  if (seconds < 3600) return fmt::format("{}m", seconds / 60);
  if (seconds < 48 * 3600) return fmt::format("{}h", seconds / 3600);
  return fmt::format("{}d", seconds / 86400);
}

std::string format_ago(base::Duration age) {
  return age < base::Seconds(1) ? "just now" : format_age(age) + " ago";
}

std::string format_ms(double ms) {
  if (ms < 10) return fmt::format("{:.1f} ms", ms);
  if (ms < 1000) return fmt::format("{:.0f} ms", ms);
  if (ms < 100'000) return fmt::format("{:.2f} s", ms / 1000);
  return base::format_duration(base::Seconds(std::llround(ms / 1000)));
}

}  // namespace thaw::cli
