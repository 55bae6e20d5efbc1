#include "spec/shapes.h"

#include <algorithm>

#include <fmt/format.h>

namespace thaw::spec::shapes {
namespace {

/// Keys, names and units are of our own tables: plain ASCII, nothing to escape but what a pattern brings along.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

}  // namespace

std::string text() {
  return R"({"type":"string"})";
}

std::string whole(std::uint64_t min, std::uint64_t max) {
  return fmt::format(R"({{"type":"integer","minimum":{},"maximum":{}}})", min, max);
}

std::string real(double min, double max) {
  return fmt::format(R"({{"type":"number","minimum":{},"maximum":{}}})", min, max);
}

std::string bytes(std::uint64_t min, std::uint64_t max) {
  return fmt::format(R"({{"anyOf":[{},{{"type":"string","pattern":{}}}]}})", whole(min, max),
                     quoted(R"(^[0-9]+(\.[0-9]+)?(k|[KMGT]i?)?B?$)"));
}

std::string duration() {
  return fmt::format(R"({{"type":"string","pattern":{}}})", quoted(R"(^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$)"));
}

std::string choice(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) {
    all += (all.empty() ? "" : ",") + quoted(name);
    if (name == "true" || name == "false") all += "," + name;
  }
  return fmt::format(R"({{"enum":[{}]}})", all);
}

std::string either(const std::vector<std::string>& shapes) {
  return fmt::format(R"({{"anyOf":[{}]}})", fmt::join(shapes, ","));
}

std::string list(const std::string& of, std::size_t at_most) {
  return fmt::format(R"({{"type":"array","items":{},"maxItems":{}}})", of, at_most);
}

std::string map(const std::string& of) {
  return fmt::format(R"({{"type":"object","additionalProperties":{}}})", of);
}

std::string constant(const std::string& value) {
  return fmt::format(R"({{"const":{}}})", quoted(value));
}

std::string object(const std::vector<Property>& properties) {
  std::vector<std::string> rows;
  std::vector<std::string> required;
  for (const Property& property : properties) {
    rows.push_back(quoted(property.key) + ":" + property.shape);
    if (property.required) required.push_back(quoted(property.key));
  }
  return fmt::format(R"({{"type":"object","additionalProperties":false,"properties":{{{}}},"required":[{}]}})",
                     fmt::join(rows, ","), fmt::join(required, ","));
}

std::string document(const std::string& title, const std::string& object) {
  return fmt::format(R"({{"$schema":"https://json-schema.org/draft/2020-12/schema","title":{},{})", quoted(title),
                     object.substr(1));
}

}  // namespace thaw::spec::shapes
