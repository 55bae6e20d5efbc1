#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/chat.h"
#include "cli/context.h"
#include "cli/timing.h"

/// An answer of a model as a person reads it: a notice while it is waited for, then the text piece by piece.
namespace thaw::cli {

class Interrupt;

/// "waking stories… 1.2 s" on one line of a terminal, gone when the answer starts.
class WaitNotice {
 public:
  WaitNotice(std::ostream& err, bool enabled, std::string model)
      : err_(err), enabled_(enabled), model_(std::move(model)) {}
  ~WaitNotice() { clear(); }
  WaitNotice(const WaitNotice&) = delete;
  WaitNotice& operator=(const WaitNotice&) = delete;

  void heard_comment() { verb_ = "waking"; }  // only a stream that waits for a replica gets comments
  void tick();
  void clear();

 private:
  std::ostream& err_;
  bool enabled_;
  bool shown_ = false;
  std::string model_;
  const char* verb_ = "waiting for";
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// The answer as it grows, printed piece by piece unless --json wants it whole.
class Answer {
 public:
  Answer(Context& context, WaitNotice& notice) : context_(context), notice_(notice) {}

  base::Status take(const ChatDelta& delta);
  void end_line();

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] const std::string& finish_reason() const { return finish_reason_; }
  [[nodiscard]] const ChatUsage& usage() const { return usage_; }

  /// What this side saw, for a server that keeps no record of the request for us.
  [[nodiscard]] RequestRecord seen() const;

 private:
  Context& context_;
  WaitNotice& notice_;
  std::string text_;
  std::string finish_reason_;
  ChatUsage usage_;
  bool done_ = false;
  std::optional<double> first_ms_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Sends the request and takes the answer in. Ctrl-C ends it, and cancels the request on the server.
base::Result<StreamOutcome> stream_answer(const Client& client, const ChatOptions& chat, const Interrupt& interrupt,
                                          WaitNotice& notice, Answer& answer);

}  // namespace thaw::cli
