#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/commands.h"
#include "cli/interrupt.h"

namespace thaw::cli {
namespace {

constexpr std::uint32_t kDefaultTail = 100;
constexpr std::uint32_t kMaxTail = 100'000;
constexpr std::size_t kMaxLineBytes = 1 << 20;

struct LogsFlags {
  std::string model;
  bool follow = false;
  std::uint32_t tail = kDefaultTail;
};

/// {"line":"…"} for every line. What is longer than the bound becomes several.
class JsonLines {
 public:
  explicit JsonLines(std::ostream& out) : out_(out) {}
  void take(std::string_view bytes) {
    for (const char c : bytes) {
      if (c == '\n' || line_.size() == kMaxLineBytes) end_line();
      if (c != '\n') line_.push_back(c);
    }
  }
  void end() {
    if (!line_.empty()) end_line();
  }

 private:
  void end_line() {
    out_ << boost::json::serialize(boost::json::object{{"line", line_}}) << '\n';
    line_.clear();
  }
  std::ostream& out_;
  std::string line_;
};

int show_logs(Context& context, const LogsFlags& flags) {
  const auto client = context.client();
  if (!client.ok()) return context.fail(client.error());
  const Interrupt interrupt;
  JsonLines lines(context.out);
  StreamHandler handler;
  handler.interrupt_fd = interrupt.fd();
  handler.on_data = [&](std::string_view bytes) -> base::Status {
    if (context.json) {
      lines.take(bytes);
    } else if (context.terminal.out_is_terminal) {
      context.out << without_controls(bytes);
    } else {
      context.out << bytes;
    }
    context.out.flush();
    return {};
  };
  const std::string path = fmt::format("/admin/v1/models/{}/logs?tail={}{}", percent_encode(flags.model), flags.tail,
                                       flags.follow ? "&follow=1" : "");
  const auto outcome = client->stream({"GET", path, ""}, handler);
  if (context.json) lines.end();
  if (!outcome.ok()) return context.fail(outcome.error());
  return outcome->end == StreamEnd::interrupted ? kExitInterrupted : kExitOk;
}

}  // namespace

void add_logs_command(Commands& commands) {
  auto flags = std::make_shared<LogsFlags>();
  CLI::App* command = commands.add("logs", "Show what a model's engine wrote", "An object {\"line\":…} for each line",
                                   {"thaw logs stories --tail 20", "thaw logs stories -f"},
                                   [flags](Context& context) { return show_logs(context, *flags); });
  command->add_option("MODEL", flags->model, "Its name")->required();
  commands.add_tenant_option(command);
  command->add_flag("-f,--follow", flags->follow, "Go on as it writes more, until Ctrl-C");
  command->add_option("--tail", flags->tail, fmt::format("The last N lines (default: {})", kDefaultTail))
      ->type_name("N")
      ->check(CLI::Range(std::uint32_t{0}, kMaxTail).description(""));
}

}  // namespace thaw::cli
