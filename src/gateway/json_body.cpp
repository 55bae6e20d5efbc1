#include "gateway/json_body.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

#include "spec/parse.h"
#include "spec/problems.h"

namespace thaw::gateway {
namespace {

namespace json = boost::json;
constexpr std::size_t kMaxBytes = 64 * 1024;

base::Error invalid(std::string message) {
  return {base::ErrorKind::invalid, std::move(message)};
}

}  // namespace

JsonBody::JsonBody(std::string_view text) {
  if (text.empty()) return;
  if (text.size() > kMaxBytes) {
    error_ = invalid(fmt::format("the body is larger than {} bytes", kMaxBytes));
    return;
  }
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error)
    error_ = invalid("the body is no JSON: " + error.message());
  else if (!value.is_object())
    error_ = invalid("the body is no JSON object");
  else
    object_ = std::move(value.get_object());
}

const json::value* JsonBody::take(std::string_view key) {
  known_.emplace_back(key);
  if (error_) return nullptr;
  const auto found = object_.find(key);
  return found == object_.end() || found->value().is_null() ? nullptr : &found->value();
}

void JsonBody::refuse(std::string_view key, std::string_view why) {
  if (!error_) error_ = invalid(fmt::format("{}: {}", key, why));
}

std::string JsonBody::text(std::string_view key, std::size_t max_bytes) {
  const json::value* const value = take(key);
  if (value == nullptr) return {};
  const bool right = value->is_string() && value->get_string().size() <= max_bytes &&
                     std::none_of(value->get_string().begin(), value->get_string().end(),
                                  [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; });
  if (right) return std::string(value->get_string());
  refuse(key, fmt::format("must be a text of at most {} bytes without control characters", max_bytes));
  return {};
}

bool JsonBody::flag(std::string_view key) {
  const json::value* const value = take(key);
  if (value == nullptr) return false;
  if (value->is_bool()) return value->get_bool();
  refuse(key, "must be true or false");
  return false;
}

std::optional<std::int64_t> JsonBody::whole(std::string_view key, std::int64_t min, std::int64_t max) {
  const json::value* const value = take(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_int64() && value->get_int64() >= min && value->get_int64() <= max) return value->get_int64();
  refuse(key, fmt::format("must be a whole number from {} to {}", min, max));
  return std::nullopt;
}

std::vector<std::string> JsonBody::words(std::string_view key, std::size_t max_words, std::size_t max_bytes) {
  const json::value* const value = take(key);
  std::vector<std::string> words;
  if (value == nullptr) return words;
  if (!value->is_array() || value->get_array().size() > max_words) {
    refuse(key, fmt::format("must be a list of at most {} texts", max_words));
    return words;
  }
  for (const json::value& word : value->get_array()) {
    if (!word.is_string() || word.get_string().size() > max_bytes) {
      refuse(key, fmt::format("must be a list of texts of at most {} bytes", max_bytes));
      return {};
    }
    words.emplace_back(word.get_string());
  }
  return words;
}

base::Status JsonBody::finish() {
  for (const auto& entry : object_) {
    const std::string key(entry.key());
    if (error_ || std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    const std::string close = spec::nearest(key, known_);
    error_ = invalid(fmt::format(
        "{}: unknown key; {}", spec::printable(key),
        close.empty() ? fmt::format("known here: {}", fmt::join(known_, ", ")) : "did you mean " + close + "?"));
  }
  if (error_) return *error_;
  return {};
}

}  // namespace thaw::gateway
