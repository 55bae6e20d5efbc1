#include "spec/yaml.h"

#include <sstream>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "spec/utf8.h"

namespace thaw::spec {
namespace {

/// Leaves yaml-cpp's parser from inside one of its callbacks; never leaves this file.
struct Refused {
  Place place;
  std::string message;
};

Place place_of(const YAML::Mark& mark) {
  return mark.is_null() ? Place{} : Place{mark.line + 1, mark.column + 1};
}

/// Builds the tree from yaml-cpp's events and not from its nodes: the bounds hold before anything is built, repeated
/// keys are still there to be refused, and keys have places.
class TreeBuilder : public YAML::EventHandler {
 public:
  YamlValue take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) refuse(mark, "a second document starts here; put each in a file of its own");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (expects_key()) refuse(mark, "a key is missing before this \":\"");
    YamlValue& value = add(YamlValue::Kind::null, mark, "", anchor);
    if (!open_.empty() && !open_.back().value->keys.empty())
      value.place = open_.back().value->keys.back().place;  // not the next line
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse_anchor(mark); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    if (expects_key()) {
      check(mark, tag, anchor);
      open_.back().value->keys.push_back({text, place_of(mark)});
      open_.back().has_key = true;
      return;
    }
    YamlValue& value = add(YamlValue::Kind::scalar, mark, tag, anchor);
    value.text = text;
    value.quoted = tag == "!";  // yaml-cpp's tag for a scalar in quotes; "?" is a plain one
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlValue::Kind::sequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(YamlValue::Kind::mapping, mark, tag, anchor);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  struct Open {
    YamlValue* value;  ///< its parent's `items` do not grow while it is open, so that the pointer holds
    bool has_key = false;
  };

  [[noreturn]] static void refuse(const YAML::Mark& mark, std::string message) {
    throw Refused{place_of(mark), std::move(message)};
  }
  [[noreturn]] static void refuse_anchor(const YAML::Mark& mark) {
    refuse(mark, "anchors and aliases (&name, *name) are not supported; write the value out");
  }

  [[nodiscard]] bool expects_key() const {
    return !open_.empty() && open_.back().value->kind == YamlValue::Kind::mapping && !open_.back().has_key;
  }

  void check(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) refuse_anchor(mark);
    if (!tag.empty() && tag != "?" && tag != "!")
      refuse(mark, fmt::format("tags ({}) are not supported; leave it out", printable(tag)));
    if (++values_ > kMaxYamlValues) refuse(mark, fmt::format("more than {} values; that is no spec", kMaxYamlValues));
  }

  YamlValue& add(YamlValue::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    check(mark, tag, anchor);
    YamlValue* value = &root_;
    if (!open_.empty()) {
      value = &open_.back().value->items.emplace_back();
      open_.back().has_key = false;
    }
    value->kind = kind;
    value->place = place_of(mark);
    return *value;
  }

  void open(YamlValue::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (expects_key()) refuse(mark, "a key must be a word, not a list or a mapping");
    if (open_.size() >= kMaxYamlDepth) refuse(mark, fmt::format("nested deeper than {} levels", kMaxYamlDepth));
    open_.push_back({&add(kind, mark, tag, anchor)});
  }

  YamlValue root_;
  std::vector<Open> open_;
  std::size_t values_ = 0;
  int documents_ = 0;
};

/// Finds the first byte that no YAML text has. yaml-cpp itself would take 0x04 for the end and NUL for a sign of
/// UTF-16.
std::optional<Refused> find_foreign_byte(std::string_view text) {
  const std::size_t bad_utf8 = find_invalid_utf8(text);
  Place place;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == bad_utf8) return Refused{place, "not UTF-8; save the file as UTF-8"};
    const char c = text[i];
    if (static_cast<unsigned char>(c) < ' ' && c != '\n' && c != '\r' && c != '\t')
      return Refused{place, fmt::format("control character {} in the text; remove it", printable({&c, 1}))};
    place = c == '\n' ? Place{place.line + 1, 1} : Place{place.line, place.column + 1};
  }
  return std::nullopt;
}

}  // namespace

std::optional<YamlValue> read_yaml(std::string_view text, Problems& problems) {
  if (text.size() > kMaxYamlBytes) {
    problems.add({}, "", fmt::format("{} bytes of text; at most {} are read", text.size(), kMaxYamlBytes));
    return std::nullopt;
  }
  if (const auto foreign = find_foreign_byte(text)) {
    problems.add(foreign->place, "", foreign->message);
    return std::nullopt;
  }
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder;
    if (!parser.HandleNextDocument(builder)) {
      problems.add({}, "", "the text is empty");
      return std::nullopt;
    }
    while (parser.HandleNextDocument(builder)) {
    }
    return builder.take();
  } catch (const Refused& refused) {
    problems.add(refused.place, "", refused.message);
  } catch (const YAML::Exception& error) {
    problems.add(place_of(error.mark), "", "cannot read the YAML: " + error.msg);
  }
  return std::nullopt;
}

}  // namespace thaw::spec
