#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/top_view.h"

namespace thaw::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct TopFlags {
  std::string interval = "1s";
  std::uint32_t count = 0;  ///< 0: until it is ended
  bool all = false;
};

/// Keys one by one and a screen of its own, for as long as it lives; what was there comes back.
class Screen {
 public:
  explicit Screen(std::ostream& out) : out_(out) {
    if (tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios keys = before_;
    keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    taken_ = tcsetattr(STDIN_FILENO, TCSANOW, &keys) == 0;
    out_ << "\x1b[?1049h\x1b[?25l" << std::flush;
  }
  ~Screen() {
    out_ << "\x1b[?25h\x1b[?1049l" << std::flush;
    if (taken_) (void)tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  void draw(const TopSample& sample, const TopView& view, const Terminal& terminal) {
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) size = {24, 80, 0, 0};
    std::string frame = "\x1b[H";
    for (const std::string& line : render_top(sample, view, size.ws_row - 1U, size.ws_col, terminal))
      frame += line + "\x1b[K\n";
    out_ << frame << "\x1b[J" << std::flush;
  }

 private:
  std::ostream& out_;
  termios before_{};
  bool taken_ = false;
};

base::Result<TopSample> take_sample(const Context& context, const TopSample* before, base::Duration elapsed) {
  THAW_ASSIGN_OR_RETURN(const std::string models, context.call({"GET", "/admin/v1/models", ""}));
  THAW_ASSIGN_OR_RETURN(const std::string instances, context.call({"GET", "/admin/v1/instances", ""}));
  THAW_ASSIGN_OR_RETURN(const auto models_object, parse_object(models, "the server"));
  THAW_ASSIGN_OR_RETURN(const auto instances_object, parse_object(instances, "the server"));
  return read_sample(models_object, instances_object, before, elapsed);
}

enum class Wake { time, redraw, end };

/// Waits for the next sample's time, a key or Ctrl-C.
Wake wait(Clock::time_point until, bool keys, const Interrupt& interrupt, TopView& view) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) return Wake::time;
    pollfd watched[] = {{interrupt.fd(), POLLIN, 0}, {keys ? STDIN_FILENO : -1, POLLIN, 0}};
    (void)poll(watched, 2, static_cast<int>(left));
    if (watched[0].revents != 0) return Wake::end;
    if (watched[1].revents == 0) continue;
    char key = 'q';  // as when the terminal is gone
    if (read(STDIN_FILENO, &key, 1) <= 0 || !view.press(key)) return Wake::end;
    return Wake::redraw;
  }
}

int watch(Context& context, const TopFlags& flags) {
  const auto interval = base::parse_duration(flags.interval);
  if (!interval.ok() || *interval < base::Millis(100) || *interval > base::Seconds(3600))
    return context.fail({base::ErrorKind::invalid, fmt::format("--interval {}: give 100ms to 1h", flags.interval)});
  const bool person = context.terminal.out_is_terminal && isatty(STDIN_FILENO) != 0;
  TopView view;
  view.asleep_too = flags.all;
  const Interrupt interrupt;
  std::optional<TopSample> before;
  std::optional<Screen> screen;
  Clock::time_point taken{};
  for (std::uint32_t round = 0; flags.count == 0 || round < flags.count; ++round) {
    const auto now = Clock::now();
    auto sample =
        take_sample(context, before ? &*before : nullptr, std::chrono::duration_cast<base::Duration>(now - taken));
    if (!sample.ok()) {
      screen.reset();  // the error stays to be read
      return context.fail(sample.error());
    }
    before = std::move(*sample);
    taken = now;
    if (person && !screen) screen.emplace(context.out);
    if (!person)
      for (const std::string& line : render_top(*before, view, 0, 0, context.terminal)) context.out << line << '\n';
    for (Wake wake = Wake::redraw; wake == Wake::redraw;) {
      if (screen)
        screen->draw(*before, view, context.terminal);
      else
        context.out << std::flush;
      if (round + 1 == flags.count) break;
      wake = wait(now + *interval, person, interrupt, view);
      if (wake == Wake::end) return kExitOk;
    }
  }
  return kExitOk;
}

}  // namespace

void add_top_command(Commands& commands) {
  auto flags = std::make_shared<TopFlags>();
  CLI::App* command = commands.add(
      "top", "Watch models, requests and devices as they change", "Not for top; see `thaw ls --json`, `thaw ps --json`",
      {"thaw top", "thaw top --interval 5s --count 12 > minute.txt"}, [flags](Context& context) {
        if (context.json)
          return context.fail(
              {base::ErrorKind::invalid, "thaw top has no JSON; use `thaw ls --json` and `thaw ps --json`"});
        return watch(context, *flags);
      });
  command->add_option("--interval", flags->interval, "Time between two looks (default: 1s)")->type_name("TIME");
  command->add_option("--count", flags->count, "End after so many looks (default: with the key q)")->type_name("N");
  command->add_flag("--all", flags->all, "Also models that are asleep");
}

}  // namespace thaw::cli
