#include "spec/fields.h"

#include <algorithm>
#include <charconv>
#include <map>

#include <fmt/format.h>

#include "base/units.h"
#include "spec/parse.h"
#include "spec/utf8.h"

namespace thaw::spec {
namespace {

constexpr std::size_t kMaxNumberLength = 64;
constexpr std::size_t kMaxPathLength = 4095;  // PATH_MAX less its NUL

std::string join(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

const char* kind_name(YamlValue::Kind kind) {
  switch (kind) {
    case YamlValue::Kind::null:
      return "nothing";
    case YamlValue::Kind::scalar:
      return "a single value";
    case YamlValue::Kind::sequence:
      return "a list";
    case YamlValue::Kind::mapping:
      return "a mapping";
  }
  return "something else";
}

bool expect_scalar(const Cursor& at, const char* wanted) {
  if (at.value.kind == YamlValue::Kind::scalar) return true;
  if (at.value.kind == YamlValue::Kind::null)
    at.refuse("has no value; give it one or leave the key out");
  else
    at.refuse(fmt::format("is {}, where {} is expected", kind_name(at.value.kind), wanted));
  return false;
}

/// A scalar short enough to be a number with its unit.
bool expect_number(const Cursor& at, const char* wanted) {
  if (!expect_scalar(at, wanted)) return false;
  if (at.value.text.size() <= kMaxNumberLength) return true;
  at.refuse(fmt::format("\"{}\" is not {}", printable(at.value.text), wanted));
  return false;
}

template <typename T>
bool parse_all(const std::string& text, T& into) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
  return error == std::errc{} && end == text.data() + text.size();
}

bool out_of_range(const Cursor& at, const std::string& min, const std::string& max) {
  at.refuse(fmt::format("{} is out of range; give {} to {}", printable(at.value.text), min, max));
  return false;
}

void refuse_unknown(const Cursor& at, const YamlValue::Key& key, const std::vector<std::string>& known) {
  const std::string slip_of = nearest(key.text, known);
  const std::string where = at.path.empty() ? printable(key.text) : at.path + "." + printable(key.text);
  at.problems.add(
      key.place, where,
      slip_of.empty() ? "unknown key; known here: " + join(known) : "unknown key; did you mean " + slip_of + "?");
}

}  // namespace

Cursor Cursor::child(const std::string& key, const YamlValue& of) const {
  return {of, path.empty() ? key : path + "." + key, problems};
}

Cursor Cursor::at(const std::string& key) const {
  for (std::size_t i = 0; i < value.keys.size(); ++i)
    if (value.keys[i].text == key) return child(key, value.items[i]);
  return child(key, value);
}

std::vector<Match> match_keys(const Cursor& at, const std::vector<std::string>& keys,
                              const std::vector<bool>& required) {
  std::vector<Match> matches;
  if (at.value.kind != YamlValue::Kind::mapping) {
    at.refuse(fmt::format("is {}, where a mapping with {} is expected", kind_name(at.value.kind), join(keys)));
    return matches;
  }
  std::vector<const YamlValue::Key*> seen(keys.size(), nullptr);
  for (std::size_t i = 0; i < at.value.keys.size(); ++i) {
    const YamlValue::Key& key = at.value.keys[i];
    const auto found = std::find(keys.begin(), keys.end(), key.text);
    if (found == keys.end()) {
      refuse_unknown(at, key, keys);
      continue;
    }
    const auto row = static_cast<std::size_t>(found - keys.begin());
    if (seen[row] != nullptr) {
      at.problems.add(key.place, at.child(key.text, at.value).path,
                      fmt::format("given twice; the first is in line {}", seen[row]->place.line));
      continue;
    }
    seen[row] = &key;
    matches.push_back({row, &at.value.items[i]});
  }
  for (std::size_t row = 0; row < keys.size(); ++row)
    if (required[row] && seen[row] == nullptr) at.child(keys[row], at.value).refuse("missing");
  return matches;
}

void read_items(const Cursor& at, const ListForm& form, const std::function<void(const Cursor&)>& read) {
  if (at.value.kind != YamlValue::Kind::sequence)
    return at.refuse(fmt::format("must be a list of {}, such as {}", form.of, form.example));
  if (at.value.items.size() > form.most)
    return at.refuse(fmt::format("is too long; at most {} {} are possible", form.most, form.of));
  for (std::size_t n = 0; n < at.value.items.size(); ++n)
    read({at.value.items[n], fmt::format("{}[{}]", at.path, n), at.problems});
}

bool read_text(const Cursor& at, std::string& into) {
  if (!expect_scalar(at, "text")) return false;
  // Escapes can bring in what the text itself may not hold. NUL would cut an argument short, the others spoil logs and
  // terminals.
  for (const char c : at.value.text) {
    if (static_cast<unsigned char>(c) >= ' ' || c == '\n' || c == '\r' || c == '\t') continue;
    at.refuse(fmt::format("has the control character {}; remove it", printable({&c, 1})));
    return false;
  }
  if (find_invalid_utf8(at.value.text) != at.value.text.size()) {
    at.refuse("is not UTF-8");
    return false;
  }
  into = at.value.text;
  return true;
}

bool read_path(const Cursor& at, const std::string& base_directory, std::string& into) {
  std::string path;
  if (!read_text(at, path)) return false;
  if (path.empty()) {
    at.refuse("is empty; give a path");
    return false;
  }
  if (path.front() != '/') {
    if (base_directory.empty() || base_directory.front() != '/') {
      at.refuse(fmt::format("{} is a relative path; give an absolute one", printable(path)));
      return false;
    }
    while (path.starts_with("./")) path.erase(0, path.find_first_not_of('/', 1));
    path.insert(0, base_directory.back() == '/' ? base_directory : base_directory + "/");
  }
  if (path.size() > kMaxPathLength) {
    at.refuse(fmt::format("is a path of {} bytes; at most {} are possible", path.size(), kMaxPathLength));
    return false;
  }
  into = path;
  return true;
}

bool read_whole(const Cursor& at, std::uint64_t min, std::uint64_t max, std::uint64_t& into) {
  if (!expect_number(at, "a whole number")) return false;
  if (at.value.quoted) {
    at.refuse("is text, where a whole number is expected; remove the quotes");
    return false;
  }
  const std::string& text = at.value.text;
  const std::size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  if (text.size() == sign || !std::all_of(text.begin() + static_cast<std::ptrdiff_t>(sign), text.end(),
                                          [](char c) { return c >= '0' && c <= '9'; })) {
    at.refuse(fmt::format("\"{}\" is not a whole number", printable(text)));
    return false;
  }
  std::uint64_t value = 0;
  if (!parse_all(text.starts_with('+') ? text.substr(1) : text, value) || value < min || value > max)
    return out_of_range(at, fmt::to_string(min), fmt::to_string(max));
  into = value;
  return true;
}

bool read_real(const Cursor& at, double min, double max, double& into) {
  if (!expect_number(at, "a number")) return false;
  if (at.value.quoted) {
    at.refuse("is text, where a number is expected; remove the quotes");
    return false;
  }
  double value = 0;
  if (!parse_all(at.value.text, value)) {
    at.refuse(fmt::format("\"{}\" is not a number; write it like 2 or 0.5", printable(at.value.text)));
    return false;
  }
  if (!(value >= min && value <= max)) return out_of_range(at, fmt::to_string(min), fmt::to_string(max));  // NaN too
  into = value;
  return true;
}

bool read_bytes(const Cursor& at, std::uint64_t min, std::uint64_t max, std::uint64_t& into) {
  if (!expect_number(at, "a size such as 64MiB")) return false;
  const auto value = base::parse_bytes(at.value.text);
  if (!value) {
    at.refuse(value.error().message);
    return false;
  }
  if (*value < min || *value > max) return out_of_range(at, base::format_bytes(min), base::format_bytes(max));
  into = *value;
  return true;
}

bool read_duration(const Cursor& at, base::Duration min, base::Duration max, base::Duration& into) {
  if (!expect_number(at, "a duration such as 30s")) return false;
  const auto value = base::parse_duration(at.value.text);
  if (!value) {
    at.refuse(value.error().message);
    return false;
  }
  if (*value < min || *value > max) return out_of_range(at, base::format_duration(min), base::format_duration(max));
  into = *value;
  return true;
}

bool read_choice(const Cursor& at, const std::vector<std::string>& names, std::size_t& index) {
  if (!expect_scalar(at, names.size() == 1 ? names.front().c_str() : "one word")) return false;
  const auto found = std::find(names.begin(), names.end(), at.value.text);
  if (found == names.end()) {
    const std::string slip_of = nearest(at.value.text, names);
    at.refuse(fmt::format("\"{}\" is unknown; {}", printable(at.value.text),
                          slip_of.empty() ? "known: " + join(names) : "did you mean " + slip_of + "?"));
    return false;
  }
  index = static_cast<std::size_t>(found - names.begin());
  return true;
}

bool read_header(const Cursor& root, const std::string& kind, bool required) {
  static const std::map<std::string, std::string> uses{{"Model", "thaw deploy FILE"},
                                                       {"Server", "thaw serve --config FILE"}};
  if (root.value.kind != YamlValue::Kind::mapping) {
    root.refuse(fmt::format("the text is {}, where a mapping with apiVersion: {} and kind: {} is expected",
                            kind_name(root.value.kind), kApiVersion, kind));
    return false;
  }
  const auto check = [&](const char* key, const std::string& wanted, const auto& explain) {
    const Cursor at = root.at(key);
    if (&at.value == &root.value) {
      if (required) at.refuse(fmt::format("missing; write {}: {}", key, wanted));
      return !required;
    }
    if (!expect_scalar(at, wanted.c_str())) return false;
    if (at.value.text == wanted) return true;
    at.refuse(fmt::format("{} {}", printable(at.value.text), explain(at.value.text)));
    return false;
  };
  const bool version = check("apiVersion", kApiVersion, [](const std::string&) {
    return fmt::format("is unknown; this thaw reads {}", kApiVersion);
  });
  const bool right_kind = check("kind", kind, [&](const std::string& given) {
    const auto use = uses.find(given);
    return use == uses.end() ? fmt::format("is unknown; {} is expected here", kind)
                             : fmt::format("is not what belongs here; a {} is for `{}`, and {} is expected", given,
                                           use->second, kind);
  });
  return version && right_kind;
}

}  // namespace thaw::spec
