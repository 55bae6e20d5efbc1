#include "cli/gantt.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "cli/terminal.h"

namespace thaw::cli {
namespace {

constexpr std::size_t kMaxNameWidth = 24;
constexpr std::size_t kNumberWidth = 8;  // format_ms
constexpr std::size_t kGaps = 6;         // three gaps of two spaces

/// At most kMaxNameWidth columns, cut between code points.
std::string short_name(const std::string& name) {
  std::string cut;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool starts_code_point = (static_cast<unsigned char>(name[i]) & 0xc0U) != 0x80U;
    if (starts_code_point && display_width(cut) == kMaxNameWidth) break;
    cut.push_back(name[i]);
  }
  return cut;
}

std::string bar(const TimelinePhase& phase, double end_ms, std::size_t columns, bool utf8) {
  const double per_column_ms = end_ms > 0 ? end_ms / static_cast<double>(columns) : 1;
  const auto column_at = [&](double ms) {
    return static_cast<std::size_t>(std::lround(std::max(0.0, ms) / per_column_ms));
  };
  const std::size_t first = std::min(column_at(phase.start_ms), columns - 1);
  const std::size_t last = std::clamp(column_at(phase.start_ms + phase.duration_ms), first + 1, columns);
  std::string text(first, ' ');
  for (std::size_t i = first; i < last; ++i) text += utf8 ? "█" : "#";
  return text;
}

std::string padded(const std::string& name, std::size_t width) {
  return name + std::string(width - display_width(name), ' ');
}

}  // namespace

std::string render_gantt(std::vector<TimelinePhase> phases, bool utf8) {
  if (phases.empty()) return {};
  std::stable_sort(phases.begin(), phases.end(),
                   [](const TimelinePhase& a, const TimelinePhase& b) { return a.start_ms < b.start_ms; });
  std::size_t left_out = 0;
  if (phases.size() > kMaxChartPhases) {
    left_out = phases.size() - kMaxChartPhases;
    phases.resize(kMaxChartPhases);
  }

  double end_ms = 0;
  std::size_t name_width = std::string("phase").size();
  for (TimelinePhase& phase : phases) {
    phase.name = short_name(without_controls(phase.name));
    end_ms = std::max(end_ms, phase.start_ms + phase.duration_ms);
    name_width = std::max(name_width, display_width(phase.name));
  }
  const std::size_t bar_columns = kChartWidth - name_width - 2 * kNumberWidth - kGaps;

  std::string text =
      fmt::format("{}  {:>{}}  {:>{}}\n", padded("phase", name_width), "start", kNumberWidth, "took", kNumberWidth);
  for (const TimelinePhase& phase : phases)
    text +=
        fmt::format("{}  {:>{}}  {:>{}}  {}\n", padded(phase.name, name_width), format_ms(phase.start_ms), kNumberWidth,
                    format_ms(phase.duration_ms), kNumberWidth, bar(phase, end_ms, bar_columns, utf8));
  if (left_out > 0) text += fmt::format("and {} more\n", left_out);
  return text;
}

}  // namespace thaw::cli
