#include "gateway/body_scan.h"

#include <boost/json/basic_parser_impl.hpp>
#include <algorithm>
#include <cstdint>
#include <functional>

namespace thaw::gateway {
namespace {

namespace json = boost::json;
using json::error_code;
using json::string_view;

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxModelBytes = 256;  ///< longer than any model's name, so that what is cut off here names none

std::uint64_t add(std::uint64_t hash, std::string_view text) {
  constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15U;
  return (hash ^ std::hash<std::string_view>{}(text)) * kGolden + kGolden;
}

/// The beginning of what the engine reads, as it passes by.
class PromptStart {
 public:
  /// A string inside a prompt: a key's value, or a part of it.
  void text(std::string_view part) {
    if (done_ || left_ == 0) return;
    part = part.substr(0, left_);
    left_ -= part.size();
    hash_ = add(hash_, part);
  }
  void role(std::string_view role) { users_ = role == "user"; }
  void message_ends() {
    done_ = done_ || users_;
    users_ = false;
  }
  [[nodiscard]] std::uint64_t hash() const { return hash_; }

 private:
  std::uint64_t hash_ = 0;  ///< 0: there was no text
  std::size_t left_ = kAffinityBytes;
  bool users_ = false;      ///< the message that is being read
  bool done_ = false;
};

/// Listens to the parser and remembers the few values that matter, all at the top level.
struct Handler {
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);

  BodyFacts facts;
  std::string key;  ///< of the member being read at the top level, bounded
  int depth = 0;
  bool is_object = false;
  bool model_seen = false;
  const char* wrong_type = nullptr;
  PromptStart prompt;
  std::string cache_key, user;  ///< bounded
  std::string inner_key;        ///< below the top level, bounded

  [[nodiscard]] bool in_prompt() const { return depth >= 1 && is_object && (key == "messages" || key == "prompt" || key == "input"); }
  static void remember(std::string& into, std::string_view part, std::size_t total) {
    if (total == part.size()) into.clear();
    into.append(part.substr(0, kMaxModelBytes - std::min(kMaxModelBytes, into.size())));
  }

  [[nodiscard]] bool top() const { return depth == 1 && is_object; }
  [[nodiscard]] bool at(std::string_view name) const { return top() && key == name; }
  /// A value that is no string or boolean stands where one is needed.
  void other_value() {
    if (at("model")) wrong_type = "\"model\" must be a string";
    if (at("stream")) wrong_type = "\"stream\" must be true or false";
  }

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    other_value();
    if (depth == 0) is_object = true;
    ++depth;
    return true;
  }
  bool on_object_end(std::size_t, error_code&) {
    constexpr int kMessage = 3;  // the body, "messages", one of them
    if (depth == kMessage && key == "messages") prompt.message_ends();
    --depth;
    return true;
  }
  bool on_array_begin(error_code&) {
    other_value();
    ++depth;
    return true;
  }
  bool on_array_end(std::size_t, error_code&) {
    --depth;
    return true;
  }
  bool on_key_part(string_view part, std::size_t total, error_code&) {
    if (!top()) return inner(part, total);
    if (total == part.size()) key.clear();
    if (total <= 64) key.append(part.data(), part.size());
    return true;
  }
  bool on_key(string_view part, std::size_t total, error_code&) {
    if (!top()) return inner(part, total);
    if (total == part.size()) key.clear();
    if (total <= 64) key.append(part.data(), part.size());
    else key.clear();  // longer than any name we know
    return true;
  }
  bool inner(std::string_view part, std::size_t total) {
    if (total == part.size()) inner_key.clear();
    if (total <= 64) inner_key.append(part);
    return true;
  }
  bool on_string_part(string_view part, std::size_t total, error_code& ec) { return on_string(part, total, ec); }
  bool on_string(string_view part, std::size_t total, error_code&) {
    if (at("model")) {
      if (total == part.size()) facts.model.clear();
      facts.model.append(part.data(), std::min(part.size(), kMaxModelBytes - facts.model.size()));
      model_seen = true;
    } else if (at("stream")) {
      wrong_type = "\"stream\" must be true or false";
    } else if (at("prompt_cache_key")) {
      remember(cache_key, part, total);
    } else if (at("user")) {
      remember(user, part, total);
    } else if (in_prompt()) {
      if (depth > 1 && inner_key == "role") prompt.role(part);
      else prompt.text(part);
    }
    return true;
  }
  bool on_bool(bool value, error_code&) {
    if (at("stream")) facts.stream = value;
    if (at("model")) wrong_type = "\"model\" must be a string";
    return true;
  }
  bool on_null(error_code&) {
    if (at("model")) wrong_type = "\"model\" must be a string";
    if (at("stream")) facts.stream = false;  // as if absent
    return true;
  }
  bool on_number_part(string_view, error_code&) { return true; }
  bool on_int64(std::int64_t, string_view, error_code&) {
    other_value();
    return true;
  }
  bool on_uint64(std::uint64_t, string_view, error_code&) {
    other_value();
    return true;
  }
  bool on_double(double, string_view, error_code&) {
    other_value();
    return true;
  }
  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }
};

}  // namespace

base::Result<BodyFacts> scan_body(std::string_view body) {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  json::basic_parser<Handler> parser(options);
  error_code ec;
  const std::size_t taken = parser.write_some(false, body.data(), body.size(), ec);
  if (!ec && taken < body.size()) ec = json::error::extra_data;
  if (ec)
    return base::Error{base::ErrorKind::invalid, "invalid JSON at byte " + std::to_string(taken) + ": " + ec.message()};
  Handler& handler = parser.handler();
  if (!handler.is_object) return base::Error{base::ErrorKind::invalid, "the body must be a JSON object"};
  if (handler.wrong_type != nullptr) return base::Error{base::ErrorKind::invalid, handler.wrong_type};
  if (!handler.model_seen || handler.facts.model.empty())
    return base::Error{base::ErrorKind::invalid, "\"model\" is missing; name one of GET /v1/models"};
  const std::string& named = handler.cache_key.empty() ? handler.user : handler.cache_key;
  handler.facts.affinity = named.empty() ? handler.prompt.hash() : affinity_of(named);
  return std::move(handler.facts);
}

std::uint64_t affinity_of(std::string_view session) { return session.empty() ? 0 : add(1, session); }

}  // namespace thaw::gateway
