#include "cli/chat.h"

#include <boost/json.hpp>

#include "cli/json.h"

namespace thaw::cli {

namespace json = boost::json;

std::string chat_request(const ChatOptions& options) {
  json::array messages;
  if (!options.system.empty()) messages.push_back(json::object{{"role", "system"}, {"content", options.system}});
  for (const ChatMessage& message : options.earlier)
    messages.push_back(json::object{{"role", message.role}, {"content", message.content}});
  messages.push_back(json::object{{"role", "user"}, {"content", options.prompt}});
  json::object request{{"model", options.model},
                       {"messages", std::move(messages)},
                       {"stream", true},
                       {"stream_options", json::object{{"include_usage", true}}}};
  if (options.max_tokens) request["max_tokens"] = *options.max_tokens;
  if (options.temperature) request["temperature"] = *options.temperature;
  return json::serialize(request);
}

base::Result<ChatDelta> parse_chat_event(std::string_view data) {
  ChatDelta delta;
  if (data == "[DONE]") {
    delta.done = true;
    return delta;
  }
  THAW_ASSIGN_OR_RETURN(const json::object event, parse_object(data, "the model"));
  if (const json::object* error = object_of(event, "error")) {
    const std::string message = text_of(*error, "message");
    return base::Error{base::ErrorKind::internal,
                       message.empty() ? "the answer failed: " + std::string(data) : message};
  }
  if (const json::object* usage = object_of(event, "usage"))
    delta.usage = ChatUsage{count_of(*usage, "prompt_tokens"), count_of(*usage, "completion_tokens")};
  const auto choices = objects_of(event, "choices");
  if (choices.empty()) return delta;
  delta.finish_reason = text_of(*choices.front(), "finish_reason");
  if (const json::object* part = object_of(*choices.front(), "delta")) {
    delta.text = text_of(*part, "content");
    delta.reasoning = text_of(*part, "reasoning_content");
  }
  return delta;
}

}  // namespace thaw::cli
