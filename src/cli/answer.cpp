#include "cli/answer.h"

#include <fmt/format.h>

#include "cli/interrupt.h"
#include "cli/sse.h"

namespace thaw::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kPatience_ms = 300;  // a warm model has answered by then: no notice flickers up

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

void WaitNotice::tick() {
  const double waited_ms = ms_since(start_);
  if (!enabled_ || waited_ms < kPatience_ms) return;
  err_ << fmt::format("\r\x1b[K{} {}... {:.1f} s", verb_, model_, waited_ms / 1000) << std::flush;
  shown_ = true;
}

void WaitNotice::clear() {
  if (shown_) err_ << "\r\x1b[K" << std::flush;
  shown_ = false;
  enabled_ = false;
}

base::Status Answer::take(const ChatDelta& delta) {
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

void Answer::end_line() {
  notice_.clear();
  if (!context_.json && !text_.empty() && text_.back() != '\n') context_.out << '\n' << std::flush;
}

RequestRecord Answer::seen() const {
  RequestRecord record;
  record.ttft_ms = first_ms_;
  record.total_ms = ms_since(start_);
  return record;
}

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

}  // namespace thaw::cli
