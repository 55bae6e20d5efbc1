// events: why a model's replicas came and went. explain: what would become of a request now.
#include <algorithm>
#include <ctime>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/table.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;

constexpr std::uint32_t kDefaultTail = 40;
constexpr std::size_t kMaxLineBytes = 1 << 20;

struct EventsFlags {
  std::string model;
  bool follow = false;
  std::uint32_t tail = kDefaultTail;
};

struct ExplainFlags {
  std::string model;
  std::string priority;
};

/// "11-26 05:47:08.123", of this machine's time zone.
std::string time_of(std::uint64_t unix_ms) {
  const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm local{};
  localtime_r(&seconds, &local);
  char text[32] = "";
  std::strftime(text, sizeof text, "%m-%d %H:%M:%S", &local);
  return fmt::format("{}.{:03}", text, unix_ms % 1000);
}

Style style_of_event(const std::string& event) {
  if (event == "ready" || event == "took_over") return Style::green;
  if (event.ends_with("failed")) return Style::red;
  if (event == "standby" || event == "gone" || event == "drained") return Style::dim;
  return Style::plain;
}

std::string duration_of(const json::object& object, std::string_view key) {
  const auto ms = number_of(object, key);
  return ms ? format_ms(*ms) : "";
}

/// One event as a line: when, what, of which replica, where, and why.
std::string event_line(const json::object& event, bool colours) {
  const std::string name = text_of(event, "event");
  const std::uint64_t replica = count_of(event, "replica");
  const std::string device = text_of(event, "device");
  std::string where = device.empty() ? "" : text_of(event, "node") + "/" + device;
  std::string why = without_controls(text_of(event, "reason"));  // an engine's last words may be in it
  if (const std::string took = duration_of(event, "took_ms"); !took.empty()) why = "after " + took + (why.empty() ? "" : ", " + why);
  const std::string rule = text_of(event, "rule");
  if (!rule.empty()) why += fmt::format(" [{}{}{}]", rule, text_of(event, "request").empty() ? "" : " ", text_of(event, "request"));
  return fmt::format("{}  {}  {:>6}  {:<16}  {}", time_of(count_of(event, "unix_ms")),
                     styled(fmt::format("{:<15}", name), style_of_event(name), colours), replica == 0 ? "" : std::to_string(replica), where, why);
}

/// Takes an answer of an object a line apart.
class EventLines {
 public:
  EventLines(Context& context, bool as_json) : context_(context), as_json_(as_json) {}
  base::Status take(std::string_view bytes) {
    for (const char c : bytes) {
      if (c != '\n') {
        if (line_.size() == kMaxLineBytes) return base::Error{base::ErrorKind::io, "the server sent a line that is too long"};
        line_.push_back(c);
        continue;
      }
      if (as_json_) {
        context_.out << line_ << '\n';
      } else {
        const auto event = parse_object(line_, "the server");
        if (!event.ok()) return event.error();
        context_.out << event_line(*event, context_.terminal.colours) << '\n';
      }
      line_.clear();
    }
    context_.out.flush();
    return {};
  }

 private:
  Context& context_;
  bool as_json_;
  std::string line_;
};

int follow_events(Context& context, const std::string& path, std::uint64_t after) {
  const auto client = context.client();
  if (!client.ok()) return context.fail(client.error());
  const Interrupt interrupt;
  EventLines lines(context, context.json);
  StreamHandler handler;
  handler.interrupt_fd = interrupt.fd();
  handler.on_data = [&](std::string_view bytes) { return lines.take(bytes); };
  const auto outcome = client->stream({"GET", fmt::format("{}?follow=1&after={}", path, after), ""}, handler);
  if (!outcome.ok()) return context.fail(outcome.error());
  return outcome->end == StreamEnd::interrupted ? kExitInterrupted : kExitOk;
}

int show_events(Context& context, const EventsFlags& flags) {
  const std::string path = fmt::format("/admin/v1/models/{}/events", percent_encode(flags.model));
  const auto body = context.call({"GET", path, ""});
  if (!body.ok()) return context.fail(body.error());
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  const auto events = objects_of(*answer, "events");
  const std::size_t first = events.size() - std::min<std::size_t>(events.size(), flags.tail);
  for (std::size_t n = first; n < events.size(); ++n) {
    if (context.json)
      context.out << json::serialize(*events[n]) << '\n';
    else
      context.out << event_line(*events[n], context.terminal.colours) << '\n';
  }
  context.out.flush();
  if (flags.follow) return follow_events(context, path, count_of(*answer, "last"));
  if (events.empty() && !context.json) context.err << "nothing happened to " << flags.model << " since the server was started\n";
  return kExitOk;
}

std::string place_of(const json::object& e) {
  std::string text = text_of(e, "node");
  if (const json::value* devices = e.if_contains("devices"); devices != nullptr && devices->is_array()) {
    for (const json::value& device : devices->get_array())
      if (device.is_string()) text += (&device == &devices->get_array().front() ? "/" : "+") + std::string(device.get_string());
  }
  return text;
}

int explain_model(Context& context, const ExplainFlags& flags) {
  const std::string query = flags.priority.empty() ? "" : "?priority=" + flags.priority;
  const auto body = context.call({"GET", fmt::format("/admin/v1/models/{}/explain{}", percent_encode(flags.model), query), ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  const auto line = [&context](std::string_view key, const std::string& value) {
    if (!value.empty()) context.out << styled(fmt::format("{:<14}", key), Style::dim, context.terminal.colours) << value << '\n';
  };
  const bool refused = text_of(*answer, "prospect") == "refused";
  context.out << (refused ? "refused: " : "") << text_of(*answer, "summary") << '\n';
  line("where", place_of(*answer));
  line("way up", text_of(*answer, "way"));
  line("because", text_of(*answer, "why"));
  for (const json::object* other : objects_of(*answer, "displaces")) {
    const std::string name = text_of(*other, "model");
    const std::uint64_t busy = count_of(*other, "in_flight");
    line("makes room",
         fmt::format("{}, {}{}", name.empty() ? "another tenant's model" : fmt::format("instance {} of {}", count_of(*other, "replica"), name),
                     text_of(*other, "to") == "standby" ? "which goes to standby" : "which is stopped",
                     busy > 0 ? fmt::format(" once its {} requests have ended", busy) : ""));
  }
  // What it asked for counts up to what its tenant may ask for.
  const std::string counts = text_of(*answer, "priority");
  line("priority", flags.priority.empty() ? "" : counts == flags.priority ? counts : counts + ", as more is not its tenant's to ask for");
  line("waiting", count_of(*answer, "queued_before") > 0 ? fmt::format("{} requests before it", count_of(*answer, "queued_before")) : "");
  if (refused) {
    line("error", text_of(*answer, "refusal"));
    line("come again", duration_of(*answer, "retry_after_ms"));
    return kExitOk;
  }
  line("first token", (flag_of(*answer, "at_least") ? "at least " : "about ") + duration_of(*answer, "first_token_ms"));
  Table table({{"PART"}, {"TAKES", Table::Align::right}, {"FROM"}});
  for (const json::object* part : objects_of(*answer, "parts")) {
    const std::string takes = duration_of(*part, "ms");
    table.add({{text_of(*part, "name")}, {takes.empty() ? "?" : takes}, {text_of(*part, "source")}});
  }
  context.out << '\n' << table.render(context.terminal.colours);
  return kExitOk;
}

std::string check_not_empty(const std::string& text) {
  return text.empty() ? "the name is empty" : "";
}

}  // namespace

void add_events_commands(Commands& commands) {
  auto flags = std::make_shared<EventsFlags>();
  CLI::App* events =
      commands.add("events", "Show why a model's replicas started, rested, were evicted or failed, and its revisions took over", "An object for each event",
                   {"thaw events stories", "thaw events stories --follow"}, [flags](Context& context) { return show_events(context, *flags); });
  events->add_option("MODEL", flags->model, "Its name")->required()->check(CLI::Validator(check_not_empty, ""));
  commands.add_tenant_option(events);
  events->add_flag("-f,--follow", flags->follow, "Go on as more happens, until Ctrl-C");
  events->add_option("--tail", flags->tail, fmt::format("The last N (default: {})", kDefaultTail))
      ->type_name("N")
      ->check(CLI::Range(std::uint32_t{0}, std::uint32_t{100'000}).description(""));

  auto asked = std::make_shared<ExplainFlags>();
  CLI::App* explain = commands.add("explain", "Say what would become of a request to a model now, and how long it would take", "The server's JSON",
                                   {"thaw explain stories", "thaw explain stories --priority high"},
                                   [asked](Context& context) { return explain_model(context, *asked); });
  explain->add_option("MODEL", asked->model, "Its name")->required()->check(CLI::Validator(check_not_empty, ""));
  commands.add_tenant_option(explain);
  explain->add_option("--priority", asked->priority, "What the request would ask for by x-thaw-priority (default: its model's)")
      ->type_name("low|normal|high")
      ->check(CLI::IsMember({"low", "normal", "high"}).description(""));
}

}  // namespace thaw::cli
