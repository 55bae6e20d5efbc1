#include "gateway/body_patch.h"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <algorithm>

namespace thaw::gateway {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// Walks over the members of an object that is known to be right.
class Members {
 public:
  explicit Members(std::string_view object) : text_(object), at_(object.find('{') + 1) {}

  /// The next member; false: there is none.
  bool next() {
    skip_spaces();
    if (text_[at_] == ',') {
      ++at_;
      skip_spaces();
    }
    if (text_[at_] == '}') return false;
    const std::size_t begin = at_;
    skip_string();
    key_ = text_.substr(begin, at_ - begin);
    skip_spaces();
    ++at_;  // the colon
    skip_spaces();
    const std::size_t value = at_;
    skip_value();
    value_ = text_.substr(value, at_ - value);
    return true;
  }
  [[nodiscard]] std::string_view quoted_key() const { return key_; }
  [[nodiscard]] std::string_view value() const { return value_; }
  /// As it is meant: an escape in it hides nothing.
  [[nodiscard]] bool is(std::string_view key) const {
    if (key_.find('\\') == std::string_view::npos) return key_.substr(1, key_.size() - 2) == key;
    boost::json::error_code ec;
    const boost::json::value read = boost::json::parse(key_, ec);
    return !ec && read.is_string() && std::string_view(read.get_string()) == key;
  }

 private:
  void skip_spaces() {
    while (is_space(text_[at_])) ++at_;
  }
  void skip_string() {
    for (++at_; text_[at_] != '"'; ++at_)
      if (text_[at_] == '\\') ++at_;
    ++at_;
  }
  void skip_value() {
    std::size_t depth = 0;
    while (true) {
      const char c = text_[at_];
      if (c == '"') {
        skip_string();
        if (depth == 0) return;
        continue;
      }
      if (depth == 0 && (c == ',' || c == '}' || is_space(c))) return;
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') {
        ++at_;
        if (--depth == 0) return;
        continue;
      }
      ++at_;
    }
  }

  std::string_view text_;
  std::size_t at_;
  std::string_view key_, value_;
};

}  // namespace

std::string patch_body(std::string_view body, const std::vector<BodySetting>& settings) {
  std::vector<bool> there(settings.size(), false);
  std::string out;
  std::size_t more = 2;
  for (const BodySetting& setting : settings) more += setting.key.size() + setting.json.size() + 4;
  out.reserve(body.size() + more);
  out.push_back('{');
  const auto add = [&](std::string_view quoted_key, std::string_view value) {
    if (out.size() > 1) out.push_back(',');
    out.append(quoted_key).push_back(':');
    out.append(value);
  };
  for (Members member(body); member.next();) {
    const auto found = std::find_if(settings.begin(), settings.end(), [&](const BodySetting& s) { return member.is(s.key); });
    if (found == settings.end()) {
      add(member.quoted_key(), member.value());
    } else if (!found->override && member.value() != "null") {
      there[static_cast<std::size_t>(found - settings.begin())] = true;
      add(member.quoted_key(), member.value());
    }
  }
  for (std::size_t n = 0; n < settings.size(); ++n)
    if (!there[n]) add("\"" + settings[n].key + "\"", settings[n].json);
  out.push_back('}');
  return out;
}

}  // namespace thaw::gateway
