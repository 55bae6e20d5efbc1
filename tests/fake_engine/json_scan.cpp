#include "json_scan.h"

#include <charconv>

namespace thaw::fake_engine {
namespace {

void skip_space(std::string_view text, std::size_t& at) {
  while (at < text.size() && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t')) ++at;
}

void skip_string(std::string_view text, std::size_t& at) {
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  ++at;
}

/// The value that begins at `at`, which is moved behind it.
std::string_view take_value(std::string_view text, std::size_t& at) {
  const std::size_t start = at;
  int depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      skip_string(text, at);
      if (depth == 0) break;
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') {
      if (depth == 0) break;
      if (--depth == 0) {
        ++at;
        break;
      }
    }
    if (depth == 0 && (c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t')) break;
    ++at;
  }
  if (at > text.size()) at = text.size();
  return text.substr(start, at - start);
}

}  // namespace

std::string_view json_member(std::string_view object, std::string_view key) {
  std::size_t at = 0;
  skip_space(object, at);
  if (at >= object.size() || object[at] != '{') return {};
  ++at;
  while (at < object.size()) {
    skip_space(object, at);
    if (at >= object.size() || object[at] != '"') return {};
    const std::string_view name = json_string(take_value(object, at));
    skip_space(object, at);
    if (at >= object.size() || object[at] != ':') return {};
    ++at;
    skip_space(object, at);
    const std::string_view value = take_value(object, at);
    if (name == key) return value;
    skip_space(object, at);
    if (at >= object.size() || object[at] != ',') return {};
    ++at;
  }
  return {};
}

std::vector<std::string_view> json_elements(std::string_view array) {
  std::vector<std::string_view> elements;
  std::size_t at = 0;
  skip_space(array, at);
  if (at >= array.size() || array[at] != '[') return elements;
  ++at;
  while (at < array.size()) {
    skip_space(array, at);
    if (at >= array.size() || array[at] == ']') break;
    const std::string_view value = take_value(array, at);
    if (value.empty()) break;
    elements.push_back(value);
    skip_space(array, at);
    if (at >= array.size() || array[at] != ',') break;
    ++at;
  }
  return elements;
}

std::string_view json_string(std::string_view value) {
  if (value.size() < 2 || value.front() != '"' || value.back() != '"') return {};
  return value.substr(1, value.size() - 2);
}

std::optional<std::int64_t> json_integer(std::string_view value) {
  std::int64_t result = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (error != std::errc() || end == value.data()) return std::nullopt;
  return result;
}

}  // namespace thaw::fake_engine
