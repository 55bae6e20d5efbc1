#include "gateway/body_scan.h"

#include <boost/json/basic_parser_impl.hpp>
#include <algorithm>
#include <cstdint>

namespace thaw::gateway {
namespace {

namespace json = boost::json;
using json::error_code;
using json::string_view;

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxModelBytes = 256;  ///< longer than any model's name, so that what is cut off here names none

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
    if (!top()) return true;
    if (total == part.size()) key.clear();
    if (total <= 64) key.append(part.data(), part.size());
    return true;
  }
  bool on_key(string_view part, std::size_t total, error_code&) {
    if (!top()) return true;
    if (total == part.size()) key.clear();
    if (total <= 64) key.append(part.data(), part.size());
    else key.clear();  // longer than any name we know
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
  return std::move(handler.facts);
}

}  // namespace thaw::gateway
