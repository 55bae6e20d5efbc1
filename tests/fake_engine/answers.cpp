#include "answers.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "json_scan.h"

namespace thaw::fake_engine {
namespace {

constexpr std::string_view kCreated = "1700000000";  // fixed, like everything else in an answer
constexpr std::size_t kEmbeddingSize = 8;

std::string_view last_content(std::string_view body) {
  const auto messages = json_elements(json_member(body, "messages"));
  if (messages.empty()) return {};
  const std::string_view content = json_member(messages.back(), "content");
  if (const auto text = json_string(content); !text.empty()) return text;
  for (const std::string_view part : json_elements(content)) {  // [{"type": "text", "text": "…"}]
    if (const auto text = json_string(json_member(part, "text")); !text.empty()) return text;
  }
  return {};
}

std::string_view prompt_of(Endpoint endpoint, std::string_view body) {
  return endpoint == Endpoint::chat ? last_content(body) : json_string(json_member(body, "prompt"));
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    if (space != 0) words.push_back(text.substr(0, space));
    text = space == std::string_view::npos ? std::string_view() : text.substr(space + 1);
  }
  if (words.empty()) words.emplace_back("nothing");
  return words;
}

std::string model_name(std::string_view body, const Options& options) {
  const std::string_view name = json_string(json_member(body, "model"));
  return std::string(name.empty() ? std::string_view(options.alias) : name);
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](std::size_t k) { return i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U; };
    const std::uint32_t group = byte(0) << 16 | byte(1) << 8 | byte(2);
    for (unsigned k = 0; k < 4; ++k) out += i + k <= bytes.size() ? alphabet[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

/// Eight numbers in [-0.5, 0.5) that depend on the text alone (FNV-1a, then a xorshift).
std::array<float, kEmbeddingSize> embed(std::string_view text) {
  std::uint64_t state = 14695981039346656037ULL;
  for (const char c : text) state = (state ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  std::array<float, kEmbeddingSize> values{};
  for (float& value : values) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    value = static_cast<float>(state >> 40) / static_cast<float>(1 << 24) - 0.5F;
  }
  return values;
}

}  // namespace

Answer::Answer(Endpoint endpoint, std::string_view body, const Options& options)
    : endpoint_(endpoint),
      behaviour_(behaviour_of(options, body)),
      streamed_(json_member(body, "stream") == "true"),
      include_usage_(json_member(json_member(body, "stream_options"), "include_usage") == "true"),
      model_(model_name(body, options)),
      prompt_(prompt_of(endpoint, body)),
      words_(split_words(prompt_)) {
  auto limit = json_integer(json_member(body, "max_tokens"));
  if (!limit) limit = json_integer(json_member(body, "max_completion_tokens"));
  by_length_ = limit && *limit <= behaviour_.tokens;
  tokens_ = std::max<std::int64_t>(0, by_length_ ? *limit : behaviour_.tokens);
  if (!streamed_) return;
  const bool chat = endpoint == Endpoint::chat;
  event_head_ = chat ? R"(data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" )" : R"(data: {"choices":[{"text":" )";
  event_tail_ = chat ? "\"}}]" : R"(","index":0,"logprobs":null,"finish_reason":null}])";
  event_tail_ += common(chat ? "chat.completion.chunk" : "text_completion") + "}\n\n";
}

std::string Answer::common(std::string_view object) const {
  std::string out = ",\"created\":";
  out.append(kCreated).append(",\"model\":\"").append(model_);
  return out.append(R"(","system_fingerprint":"fake","object":")").append(object).append(R"(","id":"chatcmpl-fake")");
}

std::string Answer::usage() const {
  const std::string prompt = std::to_string(words_.size());
  const std::string completion = std::to_string(tokens_);
  const std::string total = std::to_string(static_cast<std::int64_t>(words_.size()) + tokens_);
  return R"(,"usage":{"completion_tokens":)" + completion + R"(,"prompt_tokens":)" + prompt + R"(,"total_tokens":)" + total +
         R"(,"prompt_tokens_details":{"cached_tokens":0}},"timings":{"cache_n":0,"prompt_n":)" + prompt +
         R"(,"prompt_ms":1.0,"predicted_n":)" + completion + R"(,"predicted_ms":1.0,"predicted_per_second":1000.0})";
}

std::string Answer::whole() const {
  const bool chat = endpoint_ == Endpoint::chat;
  const std::string reason = by_length_ ? "length" : "stop";
  std::string out = chat ? R"({"choices":[{"finish_reason":")" + reason + R"(","index":0,"message":{"role":"assistant","content":")"
                         : R"({"choices":[{"text":")";
  for (std::int64_t i = 0; i < tokens_; ++i) out.append(" ").append(word(i));
  out += chat ? "\"}}]" : R"(","index":0,"logprobs":null,"finish_reason":")" + reason + "\"}]";
  return out.append(common(chat ? "chat.completion" : "text_completion")).append(usage()).append("}");
}

std::string Answer::first_event() const {
  if (endpoint_ != Endpoint::chat) return {};
  return R"(data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}])" +
         common("chat.completion.chunk") + "}\n\n";
}

void Answer::append_token_event(std::string& out, std::int64_t index) const {
  out.append(event_head_).append(word(index)).append(event_tail_);
}

std::string Answer::last_events() const {
  const std::string reason = by_length_ ? "length" : "stop";
  std::string out;
  if (endpoint_ == Endpoint::completion) {
    out = R"(data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":")" + reason + "\"}]" + common("text_completion") +
          (include_usage_ ? usage() : "") + "}\n\n";
  } else {
    const std::string tail = common("chat.completion.chunk");
    out = R"(data: {"choices":[{"finish_reason":")" + reason + R"(","index":0,"delta":{}}])" + tail + "}\n\n";
    if (include_usage_) out += R"(data: {"choices":[])" + tail + usage() + "}\n\n";
  }
  return out + "data: [DONE]\n\n";
}

std::string echo_body(const Request& request) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * request.body.size());
  for (const char c : request.body) {
    const auto byte = static_cast<unsigned char>(c);
    hex += kDigits[byte >> 4U];
    hex += kDigits[byte & 15U];
  }
  std::string type;  // a boundary may stand in quotes
  for (const char c : request.content_type) (type += c == '"' || c == '\\' ? "\\" : "") += c;
  return R"({"object":"echo","target":")" + std::string(request.target) + R"(","content_type":")" + type + R"(","bytes":)" + std::to_string(request.body.size()) +
         R"(,"body":")" + hex + R"(","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}})";
}

std::string embeddings_body(std::string_view body, const Options& options) {
  const std::string_view input = json_member(body, "input");
  auto texts = json_elements(input);
  const bool token_list = !texts.empty() && json_integer(texts.front()).has_value();
  if (texts.empty() || token_list) texts = {input};
  const bool encoded = json_string(json_member(body, "encoding_format")) == "base64";
  std::string data;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto values = embed(texts[i]);
    std::string vector;
    if (encoded) {
      std::array<char, sizeof values> bytes{};
      std::memcpy(bytes.data(), values.data(), sizeof values);
      vector = '"' + base64({bytes.data(), bytes.size()}) + '"';
    } else {
      for (const float value : values) vector += (vector.empty() ? "[" : ",") + std::to_string(value);
      vector += ']';
    }
    data += (i == 0 ? "" : ",") + (R"({"embedding":)" + vector) + R"(,"index":)" + std::to_string(i) + R"(,"object":"embedding"})";
  }
  const std::string tokens = std::to_string(texts.size());
  return R"({"model":")" + model_name(body, options) + R"(","object":"list","usage":{"prompt_tokens":)" + tokens + R"(,"total_tokens":)" +
         tokens + R"(},"data":[)" + data + "]}";
}

std::string models_body(const Options& options) {
  return R"({"object":"list","data":[{"id":")" + options.alias + R"(","object":"model","created":)" + std::string(kCreated) +
         R"(,"owned_by":"llamacpp"}]})";
}

std::string error_body(int status, std::string_view message) {
  return R"({"error":{"code":)" + std::to_string(status) + R"(,"message":")" + std::string(message) + R"(","type":")" +
         (status == 503 ? "unavailable_error" : status < 500 ? "invalid_request_error" : "server_error") + "\"}}";
}

}  // namespace thaw::fake_engine
