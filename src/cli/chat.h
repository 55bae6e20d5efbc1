#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace thaw::cli {

struct ChatMessage {
  std::string role;  ///< "user", "assistant"
  std::string content;
};

struct ChatOptions {
  std::string model;
  std::string prompt;
  std::string system;                ///< empty: no system message
  std::vector<ChatMessage> earlier;  ///< of this conversation, between the system message and the prompt
  std::optional<std::uint32_t> max_tokens;
  std::optional<double> temperature;
};

/// The body of a streaming /v1/chat/completions request that asks for usage.
std::string chat_request(const ChatOptions& options);

struct ChatUsage {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
};

/// What one event of the stream adds to the answer.
struct ChatDelta {
  std::string text;
  std::string reasoning;      ///< thoughts of models that think aloud (llama.cpp's reasoning_content)
  std::string finish_reason;  ///< "stop", "length"; empty until the end
  std::optional<ChatUsage> usage;
  bool done = false;  ///< "[DONE]": nothing follows
};

/// Reads one event's data. An error event becomes an Error with its message.
base::Result<ChatDelta> parse_chat_event(std::string_view data);

}  // namespace thaw::cli
