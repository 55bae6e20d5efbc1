#include "spec/parse_parameters.h"

#include <algorithm>

#include <fmt/format.h>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/tenancy.h"

namespace thaw::spec {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxAliases = 16;
constexpr std::size_t kMaxAliasLength = 63;
constexpr std::size_t kMaxParameters = 64;
constexpr std::size_t kMaxKey = 64;
constexpr std::size_t kMaxParametersBytes = 16ULL << 10;

/// As YAML's core schema reads it, numbers by JSON's grammar; what is in quotes is text.
json::value scalar(const YamlValue& value) {
  if (value.quoted) return json::value(value.text);
  const std::string& text = value.text;
  if (text.empty() || text == "null" || text == "Null" || text == "NULL" || text == "~") return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  json::error_code ec;
  json::value number = json::parse(text, ec);
  if (!ec && number.is_number()) return number;
  return json::value(text);
}

/// Nothing, with a problem added, where a mapping has a key twice. Depth and size are bounded by read_yaml().
json::value as_json(const Cursor& at) {
  switch (at.value.kind) {
    case YamlValue::Kind::null: return nullptr;
    case YamlValue::Kind::scalar: return scalar(at.value);
    case YamlValue::Kind::sequence: {
      json::array all;
      for (std::size_t n = 0; n < at.value.items.size(); ++n)
        all.push_back(as_json({at.value.items[n], fmt::format("{}[{}]", at.path, n), at.problems}));
      return all;
    }
    case YamlValue::Kind::mapping: break;
  }
  json::object all;
  for (std::size_t n = 0; n < at.value.items.size(); ++n) {
    const std::string& key = at.value.keys[n].text;
    if (all.contains(key))
      at.problems.add(at.value.keys[n].place, at.path + "." + printable(key), "given twice");
    else
      all[key] = as_json(at.child(printable(key), at.value.items[n]));
  }
  return all;
}

bool is_key(std::string_view key) {
  return !key.empty() && key.size() <= kMaxKey && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
}

void read_entries(const Cursor& at, std::vector<Parameters::Entry>& into) {
  if (at.value.kind != YamlValue::Kind::mapping) return at.refuse("must be a mapping, such as {temperature: 0.2, max_tokens: 1024}");
  std::size_t bytes = 0;
  for (std::size_t n = 0; n < at.value.items.size(); ++n) {
    const std::string& key = at.value.keys[n].text;
    const std::string path = at.path + "." + printable(key);
    const auto refuse = [&](std::string_view what) { at.problems.add(at.value.keys[n].place, path, what); };
    if (!is_key(key)) {
      refuse("is no parameter's name; use 1 to 64 letters, digits, \"_\", \"-\" and \".\"");
    } else if (key == "model" || key == "stream") {
      refuse("is not for a model to set: it says where a request goes, or how it is answered");
    } else if (std::any_of(into.begin(), into.end(), [&](const Parameters::Entry& e) { return e.key == key; })) {
      refuse("given twice");
    } else {
      std::string value = json::serialize(as_json({at.value.items[n], path, at.problems}));
      bytes += key.size() + value.size();
      if (into.size() == kMaxParameters || bytes > kMaxParametersBytes)
        return at.refuse(fmt::format("is too long; at most {} entries and {} bytes are possible", kMaxParameters, kMaxParametersBytes));
      into.push_back({key, std::move(value)});
    }
  }
}

const Table<Parameters>& parameters_table() {
  static const Table<Parameters> table{
      {"defaults", [](const Cursor& at, Parameters& into) { read_entries(at, into.defaults); }, false, shapes::map(shapes::kAnything)},
      {"overrides", [](const Cursor& at, Parameters& into) { read_entries(at, into.overrides); }, false, shapes::map(shapes::kAnything)}};
  return table;
}

}  // namespace

std::string parameters_shape() {
  return shape_of(parameters_table());
}

void read_parameters(const Cursor& at, ModelSpec& into) {
  read_table(at, parameters_table(), into.parameters);
  for (const Parameters::Entry& entry : into.parameters.defaults) {
    const auto& overrides = into.parameters.overrides;
    if (std::any_of(overrides.begin(), overrides.end(), [&](const Parameters::Entry& e) { return e.key == entry.key; }))
      at.at("defaults").refuse(fmt::format("{} is in overrides, too: the default would never count", entry.key));
  }
}

bool is_model_name(std::string_view text) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= kMaxAliasLength && plain(text.front()) && plain(text.back()) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return plain(c) || c == '.' || c == '_' || c == '-'; });
}

std::string aliases_shape() {
  return shapes::list(fmt::format(R"({{"type":"string","maxLength":{},"pattern":"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"}})", kMaxAliasLength),
                      kMaxAliases);
}

void read_aliases(const Cursor& at, ModelSpec& into) {
  read_items(at, {"names", "[gpt-4o-mini, default]", kMaxAliases}, [&into](const Cursor& item) {
    std::string alias;
    if (!read_text(item, alias)) return;
    if (!is_model_name(alias))
      item.refuse(fmt::format("\"{}\" is no name; use 1 to {} of a-z, 0-9, \".\", \"_\" and \"-\", a letter or digit first and last",
                              printable(alias), kMaxAliasLength));
    else if (std::find(into.aliases.begin(), into.aliases.end(), alias) != into.aliases.end())
      item.refuse(fmt::format("\"{}\" is there already", alias));
    else
      into.aliases.push_back(alias);
  });
}

void check_aliases(const Cursor& at, const ModelSpec& spec) {
  if (std::find(spec.aliases.begin(), spec.aliases.end(), base::public_part(spec.name)) != spec.aliases.end())
    at.at("aliases").refuse(fmt::format("\"{}\" is the model's own name", base::public_part(spec.name)));
}

}  // namespace thaw::spec
