#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "behaviour.h"
#include "http.h"

namespace thaw::fake_engine {

enum class Endpoint { chat, completion };

/// One chat or text completion: what is said is the prompt's own words, over and over, so that every answer can be foretold. Shapes as llama-server
/// v0.5.0 writes them.
class Answer {
 public:
  Answer(Endpoint endpoint, std::string_view body, const Options& options);
  Answer(const Answer&) = delete;  // words_ points into prompt_
  Answer& operator=(const Answer&) = delete;

  [[nodiscard]] const Behaviour& behaviour() const { return behaviour_; }
  [[nodiscard]] bool streamed() const { return streamed_; }
  [[nodiscard]] std::int64_t tokens() const { return tokens_; }

  /// The whole answer's body.
  [[nodiscard]] std::string whole() const;

  // Of a streamed answer: each returns the text of SSE events, "data: …\n\n".
  [[nodiscard]] std::string first_event() const;                    ///< the role (chat); empty for completions
  void append_token_event(std::string& out, std::int64_t index) const;
  [[nodiscard]] std::string last_events() const;                    ///< finish reason, usage if asked for, [DONE]

 private:
  [[nodiscard]] std::string_view word(std::int64_t index) const { return words_[static_cast<std::size_t>(index) % words_.size()]; }
  [[nodiscard]] std::string common(std::string_view object) const;
  [[nodiscard]] std::string usage() const;

  Endpoint endpoint_;
  Behaviour behaviour_;
  bool streamed_ = false;
  bool include_usage_ = false;
  bool by_length_ = false;         ///< max_tokens ended it
  std::int64_t tokens_ = 0;
  std::string model_;
  std::string prompt_;             ///< escaped, as it was written
  std::vector<std::string_view> words_;
  std::string event_head_;         ///< up to the token of an event
  std::string event_tail_;
};

/// What was asked, for routes that say nothing of their own: {"object":"echo","target","content_type","bytes","body"} with the body in lower hexadecimal
/// digits, and a "usage" in the names of OpenAI's newer routes.
std::string echo_body(const Request& request);
std::string embeddings_body(std::string_view body, const Options& options);
std::string models_body(const Options& options);
std::string error_body(int status, std::string_view message);

}  // namespace thaw::fake_engine
