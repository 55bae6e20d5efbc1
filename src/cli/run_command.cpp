#include <unistd.h>

#include <chrono>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/chat.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/interrupt.h"
#include "cli/sse.h"
#include "cli/timing.h"

namespace thaw::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxPromptBytes = 16 << 20;
constexpr double kPatience_ms = 300;  // a warm model has answered by then: no notice flickers up

struct RunFlags {
  ChatOptions chat;
  bool timing = false;
};

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// "waking stories… 1.2 s" on one line of a terminal, gone when the answer starts.
class WaitNotice {
 public:
  WaitNotice(std::ostream& err, bool enabled, std::string model)
      : err_(err), enabled_(enabled), model_(std::move(model)) {}
  ~WaitNotice() { clear(); }
  WaitNotice(const WaitNotice&) = delete;
  WaitNotice& operator=(const WaitNotice&) = delete;

  void heard_comment() { verb_ = "waking"; }  // only a stream that waits for a replica gets comments
  void tick() {
    const double waited_ms = ms_since(start_);
    if (!enabled_ || waited_ms < kPatience_ms) return;
    err_ << fmt::format("\r\x1b[K{} {}... {:.1f} s", verb_, model_, waited_ms / 1000) << std::flush;
    shown_ = true;
  }
  void clear() {
    if (shown_) err_ << "\r\x1b[K" << std::flush;
    shown_ = false;
    enabled_ = false;
  }

 private:
  std::ostream& err_;
  bool enabled_;
  bool shown_ = false;
  std::string model_;
  const char* verb_ = "waiting for";
  Clock::time_point start_ = Clock::now();
};

/// The answer as it grows, printed piece by piece unless --json wants it whole.
class Answer {
 public:
  Answer(Context& context, WaitNotice& notice) : context_(context), notice_(notice) {}

  base::Status take(const ChatDelta& delta) {
    if (!delta.text.empty() || !delta.reasoning.empty()) {
      notice_.clear();
      if (!first_ms_) first_ms_ = ms_since(start_);
    }
    text_ += delta.text;
    if (!delta.finish_reason.empty()) finish_reason_ = delta.finish_reason;
    if (delta.usage) usage_ = *delta.usage;
    if (delta.done) done_ = true;
    if (context_.json) return {};
    const bool terminal = context_.terminal.out_is_terminal;
    if (terminal && !delta.reasoning.empty())
      context_.out << styled(without_controls(delta.reasoning), Style::dim, context_.terminal.colours);
    context_.out << (terminal ? without_controls(delta.text) : delta.text) << std::flush;
    return {};
  }

  void end_line() {
    notice_.clear();
    if (!context_.json && !text_.empty() && text_.back() != '\n') context_.out << '\n' << std::flush;
  }

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] const std::string& finish_reason() const { return finish_reason_; }
  [[nodiscard]] const ChatUsage& usage() const { return usage_; }

  /// What this side saw, for a server that keeps no record of the request for us.
  [[nodiscard]] RequestRecord seen() const {
    RequestRecord record;
    record.ttft_ms = first_ms_;
    record.total_ms = ms_since(start_);
    return record;
  }

 private:
  Context& context_;
  WaitNotice& notice_;
  std::string text_;
  std::string finish_reason_;
  ChatUsage usage_;
  bool done_ = false;
  std::optional<double> first_ms_;
  Clock::time_point start_ = Clock::now();
};

void print_as_json(const Answer& answer, const ChatOptions& chat, const std::string& request_id,
                   const std::string& record, Context& context) {
  namespace json = boost::json;
  json::error_code error;
  json::value timing = json::parse(record, error);
  if (error) timing = nullptr;
  const json::object object{
      {"model", chat.model},
      {"text", answer.text()},
      {"finish_reason", answer.finish_reason()},
      {"request_id", request_id},
      {"usage", json::object{{"prompt_tokens", answer.usage().prompt_tokens},
                             {"completion_tokens", answer.usage().completion_tokens},
                             {"total_tokens", answer.usage().prompt_tokens + answer.usage().completion_tokens}}},
      {"timing", std::move(timing)}};
  context.out << json::serialize(object) << '\n';
}

/// The prompt from the command line, else from a pipe.
base::Result<ChatOptions> with_prompt(ChatOptions chat) {
  if (!chat.prompt.empty() && chat.prompt != "-") return chat;
  if (chat.prompt.empty() && isatty(STDIN_FILENO) != 0)
    return base::Error{base::ErrorKind::invalid,
                       "no prompt; give one: thaw run " + chat.model + " \"Once upon a time\""};
  THAW_ASSIGN_OR_RETURN(chat.prompt, read_to_end(STDIN_FILENO, "the prompt from standard input", kMaxPromptBytes));
  if (chat.prompt.empty()) return base::Error{base::ErrorKind::invalid, "the prompt on standard input is empty"};
  return chat;
}

/// Sends the request and takes the answer in.
base::Result<StreamOutcome> stream_answer(const Client& client, const ChatOptions& chat, const Interrupt& interrupt,
                                          WaitNotice& notice, Answer& answer) {
  base::Status status;
  SseParser parser(
      [&](std::string_view data) {
        if (!status.ok()) return;
        auto delta = parse_chat_event(data);
        status = delta.ok() ? answer.take(*delta) : base::Status(delta.error());
      },
      [&](std::string_view) { notice.heard_comment(); });
  StreamHandler handler;
  handler.interrupt_fd = interrupt.fd();
  handler.on_tick = [&] { notice.tick(); };
  handler.on_data = [&](std::string_view bytes) -> base::Status {
    THAW_RETURN_IF_ERROR(parser.feed(bytes));
    return status;
  };
  THAW_ASSIGN_OR_RETURN(StreamOutcome outcome,
                        client.stream({"POST", "/v1/chat/completions", chat_request(chat)}, handler));
  if (outcome.end == StreamEnd::complete && !answer.done())
    return base::Error{base::ErrorKind::io, "the answer broke off before its end; see `thaw logs " + chat.model + "`"};
  return outcome;
}

int run_model(Context& context, const RunFlags& flags) {
  const auto chat = with_prompt(flags.chat);
  if (!chat.ok()) return context.fail(chat.error());
  const auto client = context.client();
  if (!client.ok()) return context.fail(client.error());

  const Interrupt interrupt;
  WaitNotice notice(context.err, context.terminal.err_is_terminal, chat->model);
  Answer answer(context, notice);
  const auto outcome = stream_answer(*client, *chat, interrupt, notice, answer);
  const RequestRecord seen = answer.seen();
  answer.end_line();
  if (!outcome.ok()) return context.fail(outcome.error());
  if (outcome->end == StreamEnd::interrupted) return kExitInterrupted;
  if (!flags.timing && !context.json) return kExitOk;

  std::string raw;
  auto record = fetch_record(*client, outcome->response.request_id, interrupt, &raw);
  if (context.json) {
    print_as_json(answer, *chat, outcome->response.request_id, raw, context);
    return kExitOk;
  }
  if (!record.ok()) {
    context.err << "\nno timeline from the server (" << record.error().message << "); as seen from here:\n";
    const auto rate =
        seen.ttft_ms ? tokens_per_second(answer.usage().completion_tokens, *seen.ttft_ms, seen.total_ms) : std::nullopt;
    context.err << fmt::format("tokens {} out{}, first token {}, total {}\n", answer.usage().completion_tokens,
                               rate ? fmt::format(", {:.1f} tokens/s", *rate) : "", format_ms(seen.ttft_ms.value_or(0)),
                               format_ms(seen.total_ms));
    return kExitOk;
  }
  if (record->completion_tokens == 0) record->completion_tokens = answer.usage().completion_tokens;
  if (record->prompt_tokens == 0) record->prompt_tokens = answer.usage().prompt_tokens;
  context.err << '\n' << render_timing(*record, context.terminal.utf8);
  return kExitOk;
}

}  // namespace

void add_run_command(Commands& commands) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* command = commands.add(
      "run", "Ask a model one question and stream the answer", "One object with text, usage and timing, at the end",
      {"thaw run stories \"Once upon a time\" --timing", "echo \"Write a haiku\" | thaw run stories --max-tokens 64"},
      [flags](Context& context) { return run_model(context, *flags); });
  command->add_option("MODEL", flags->chat.model, "Its name")->required();
  command->add_option("PROMPT", flags->chat.prompt, "What to ask (default: standard input)");
  command->add_flag("--timing", flags->timing, "Then show tokens/s and the request's timeline, on standard error");
  command->add_option("--max-tokens", flags->chat.max_tokens, "End the answer after so many")
      ->type_name("N")
      ->check(CLI::Validator(CLI::PositiveNumber).description(""));
  command->add_option("--temperature", flags->chat.temperature, "0: always the likeliest word")
      ->type_name("T")
      ->check(CLI::Range(0.0, 2.0).description(""));
  command->add_option("--system", flags->chat.system, "A system message before the prompt")->type_name("TEXT");
}

}  // namespace thaw::cli
