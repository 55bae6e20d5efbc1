#include <unistd.h>

#include <istream>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/interrupt.h"

namespace thaw::cli {
namespace {

constexpr const char* kHelp = R"(/system TEXT  say who the model is to be, from the next answer on (no text: nobody)
/clear        forget what was said
/timing       show or hide tokens and time after each answer
/help         this
/exit         end; so does Ctrl-D, or Ctrl-C before anything is typed
"""           begins and ends a message of several lines
)";

/// One answer; the conversation grows by both messages, or by none when there was no whole answer.
int ask(Context& context, const Client& client, Conversation& talk, const ChatOptions& flags,
        const std::string& prompt) {
  ChatOptions chat = flags;
  chat.prompt = prompt;
  chat.system = talk.system();
  chat.earlier = talk.messages();
  const Interrupt interrupt;
  WaitNotice notice(context.err, context.terminal.err_is_terminal, chat.model);
  Answer answer(context, notice);
  const auto outcome = stream_answer(client, chat, interrupt, notice, answer);
  answer.end_line();
  if (!outcome.ok()) return context.fail(outcome.error());
  if (outcome->end == StreamEnd::interrupted) {
    context.err << "\n(interrupted; not remembered)\n";
    return kExitInterrupted;
  }
  talk.answered(prompt, answer.text());
  if (!talk.timing()) return kExitOk;
  const RequestRecord seen = answer.seen();
  const auto rate =
      seen.ttft_ms ? tokens_per_second(answer.usage().completion_tokens, *seen.ttft_ms, seen.total_ms) : std::nullopt;
  const std::string line = fmt::format(
      "{} tokens in, {} out{}, first after {}", answer.usage().prompt_tokens, answer.usage().completion_tokens,
      rate ? fmt::format(", {:.1f} tokens/s", *rate) : "", format_ms(seen.ttft_ms.value_or(0)));
  context.err << styled(line, Style::dim, context.terminal.colours) << '\n';
  return kExitOk;
}

int chat(Context& context, const ChatOptions& flags, bool timing) {
  const auto client = context.client();
  if (!client.ok()) return context.fail(client.error());
  const bool person = context.terminal.out_is_terminal && isatty(STDIN_FILENO) != 0;
  if (person)
    context.err << fmt::format("{}: /help shows what can be typed besides messages, /exit ends\n", flags.model);
  Conversation talk(flags.system, timing);
  int code = kExitOk;
  std::string line;
  for (;;) {
    if (person) context.out << (talk.in_message() ? "... " : ">>> ") << std::flush;
    if (!std::getline(context.in, line)) break;
    const Conversation::Step step = talk.take(line);
    if (step.kind == Conversation::Step::Kind::end) return code;
    if (step.kind == Conversation::Step::Kind::help) context.err << kHelp;
    if (step.kind == Conversation::Step::Kind::say) context.err << step.text << '\n';
    if (step.kind != Conversation::Step::Kind::ask) continue;
    code = ask(context, *client, talk, flags, step.text);
    // A script's lines build on each other; a person sees the error and goes on.
    if (code != kExitOk && !person) return code;
  }
  if (person) context.out << '\n';
  if (talk.in_message())
    return context.fail({base::ErrorKind::invalid, "the input ended within a message that \"\"\" began"});
  return code;
}

}  // namespace

void add_chat_command(Commands& commands) {
  struct Flags {
    ChatOptions chat;
    bool timing = false;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      commands.add("chat", "Talk with a model: it remembers what was said", "Not for chat; see `thaw run --json`",
                   {"thaw chat stories", "printf 'My name is Ada.\\nWhat is my name?\\n' | thaw chat stories"},
                   [flags](Context& context) {
                     if (context.json)
                       return context.fail({base::ErrorKind::invalid,
                                            "thaw chat has no JSON; use `thaw run --json`, once for each question"});
                     return chat(context, flags->chat, flags->timing);
                   });
  command->add_option("MODEL", flags->chat.model, "Its name")->required();
  command->add_option("--system", flags->chat.system, "A system message before all others")->type_name("TEXT");
  command->add_option("--max-tokens", flags->chat.max_tokens, "End each answer after so many")
      ->type_name("N")
      ->check(CLI::Validator(CLI::PositiveNumber).description(""));
  command->add_option("--temperature", flags->chat.temperature, "0: always the likeliest word")
      ->type_name("T")
      ->check(CLI::Range(0.0, 2.0).description(""));
  command->add_flag("--timing", flags->timing, "Show tokens and time after each answer");
}

}  // namespace thaw::cli
