#include "cli/pull_view.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/terminal.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;

constexpr auto kRedraw = base::Millis(200);
constexpr auto kPlainLine = base::Seconds(5);
constexpr std::size_t kDefaultWidth = 80;
constexpr std::size_t kLongestBar = 30;
constexpr std::size_t kShortestBar = 6;

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kDefaultWidth;
  return size.ws_col;
}

std::string bar(std::uint64_t percent, std::size_t width, bool utf8) {
  const std::size_t full = width * std::min<std::uint64_t>(percent, 100) / 100;
  std::string drawn;
  for (std::size_t i = 0; i < width; ++i) drawn += i < full ? (utf8 ? "\u2501" : "#") : (utf8 ? "\u2500" : "-");
  return drawn;
}

bool is_over(const json::object& pull) {
  const std::string state = text_of(pull, "state");
  return state == "done" || state == "failed";
}

}  // namespace

std::string pull_line(const json::object& pull, std::size_t width, bool utf8) {
  const std::string state = text_of(pull, "state");
  const std::uint64_t total_bytes = count_of(pull, "total_bytes");
  if (state == "queued") return "waiting for other pulls";
  if (total_bytes == 0) return "asking what there is";
  const std::uint64_t percent = count_of(pull, "percent");
  std::string numbers = fmt::format("{}/{}", base::format_bytes(count_of(pull, "done_bytes")), base::format_bytes(total_bytes));
  if (const double rate = number_of(pull, "bytes_per_second").value_or(0); rate >= 1)
    numbers += fmt::format("  {}/s", base::format_bytes(static_cast<std::uint64_t>(rate)));
  if (const auto eta_s = number_of(pull, "eta_s")) numbers += "  " + base::format_duration(base::Seconds(static_cast<std::int64_t>(*eta_s) + 1));
  std::string name = text_of(pull, "file");
  const std::string left = fmt::format("{:>3}%", percent);
  const std::size_t needed = left.size() + 1 + 2 + numbers.size();
  const std::size_t bar_width = std::min(kLongestBar, width > needed ? width - needed : 0);
  std::string line = left;
  if (bar_width >= kShortestBar) line += " " + bar(percent, bar_width, utf8);
  line += "  " + numbers;
  const std::size_t used = display_width(line);
  if (!name.empty() && used + 12 < width) {
    const std::size_t name_room = width - used - 2;
    if (display_width(name) > name_room) name = ".." + name.substr(name.size() - std::min(name.size(), name_room - 2));
    line += "  " + name;
  }
  return line;
}

base::Result<FollowedPull> follow_pull(Context& context, const json::object& begun, const LookAtPull& look) {
  const Interrupt interrupt;
  FollowedPull followed{StreamEnd::complete, begun};
  const bool draw = context.terminal.err_is_terminal && !context.json;
  base::Duration since_line = kPlainLine;
  while (!is_over(followed.pull)) {
    if (draw) {
      context.err << "\r\x1b[K" << pull_line(followed.pull, terminal_width() - 1, context.terminal.utf8) << std::flush;
    } else if (since_line >= kPlainLine && !context.json) {
      context.err << text_of(followed.pull, "source") << ": " << pull_line(followed.pull, kDefaultWidth, false) << std::endl;
      since_line = base::Duration::zero();
    }
    if (interrupt.wait_for(kRedraw)) {
      followed.end = StreamEnd::interrupted;
      break;
    }
    since_line += kRedraw;
    THAW_ASSIGN_OR_RETURN(followed.pull, look());
  }
  if (draw) context.err << "\r\x1b[K" << std::flush;
  return followed;
}

}  // namespace thaw::cli
