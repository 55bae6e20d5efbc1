#include <unistd.h>

#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/interrupt.h"
#include "cli/timing.h"

namespace thaw::cli {
namespace {

constexpr std::size_t kMaxPromptBytes = 16 << 20;

struct RunFlags {
  ChatOptions chat;
  bool timing = false;
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
