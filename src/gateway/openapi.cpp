#include "gateway/openapi.h"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <cctype>

#include "base/version.h"
#include "gateway/answer_shapes.h"
#include "gateway/route_docs.h"
#include "gateway/routes.h"
#include "spec/schema.h"

namespace thaw::gateway {
namespace {

namespace json = boost::json;

constexpr std::string_view kModelSpec = "ModelSpec";  ///< whose shape is its parser's own

json::object reference(std::string_view shape) {
  return {{"$ref", "#/components/schemas/" + std::string(shape)}};
}

json::object type_schema(std::string_view type) {
  if (type.ends_with("|null")) {
    json::object other = type_schema(type.substr(0, type.size() - 5));
    if (json::value* const one = other.if_contains("type")) {
      *one = json::array{*one, "null"};
      return other;
    }
    return {{"anyOf", json::array{std::move(other), json::object{{"type", "null"}}}}};
  }
  if (type.front() == '[') return {{"type", "array"}, {"items", type_schema(type.substr(1, type.size() - 2))}};
  if (type.front() == '{') return {{"type", "object"}, {"additionalProperties", type_schema(type.substr(1, type.size() - 2))}};
  if (type == "any") return {};
  if (type == "int") return {{"type", "integer"}};
  if (type == "bool") return {{"type", "boolean"}};
  if (type == "string" || type == "number" || type == "object") return {{"type", type}};
  return reference(type);
}

/// Takes what stands before `mark` off the front of `text`.
std::string_view take(std::string_view& text, std::string_view mark) {
  const std::size_t end = text.find(mark);
  const std::string_view taken = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view() : text.substr(end + mark.size());
  return taken;
}

/// "/admin/v1/models/{name}/stop"
std::string path_of(std::string_view pattern, std::string_view parameter) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return std::string(pattern);
  return std::string(pattern.substr(0, star)) + "{" + std::string(parameter) + "}" + std::string(pattern.substr(star + 1));
}

/// What a pattern's * is: "models" of "/admin/v1/models/*" are called by their names, keys and requests by their ids.
std::string_view parameter_of(std::string_view pattern) {
  for (const char* by_id : {"/images/", "/requests/", "/pulls/", "/keys/"})
    if (pattern.find(by_id) != std::string_view::npos) return "id";
  return "name";
}

json::array parameters(const Route& route, const RouteDoc& doc) {
  json::array all;
  if (route.pattern.find('*') != std::string_view::npos)
    all.push_back(json::object{{"name", parameter_of(route.pattern)}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}});
  std::string_view query = doc.query;
  while (!query.empty()) {
    std::string_view one = take(query, "; ");
    const std::string_view name = take(one, ":");
    const std::string_view type = take(one, " ");
    json::object schema = type == "flag" ? json::object{{"type", "string"}, {"enum", json::array{"1"}}} : type_schema(type);
    all.push_back(json::object{{"name", name}, {"in", "query"}, {"required", false}, {"description", one}, {"schema", std::move(schema)}});
  }
  if (route.rule.scope == Scope::own && !route.is_inference())
    all.push_back(json::object{{"name", "tenant"},
                               {"in", "query"},
                               {"required", false},
                               {"description", "whose; for keys of the platform"},
                               {"schema", {{"type", "string"}}}});
  return all;
}

json::object body_of(std::string_view content_type, std::string_view shape) {
  const json::object schema = shape == "any" ? json::object{} : shape.empty() ? json::object{{"type", "string"}} : reference(shape);
  return {{content_type, {{"schema", schema}}}};
}

json::object operation(const Route& route, const RouteDoc& doc) {
  json::array roles;
  for (const spec::Role role : spec::kRoles)
    if ((route.rule.roles & role_bit(role)) != 0) roles.emplace_back(to_string(role));
  json::object responses{
      {std::to_string(doc.status), {{"description", "all is well"}, {"content", body_of(doc.content, doc.answer)}}},
      {"default", {{"description", "an error"}, {"content", body_of("application/json", route.dialect == Dialect::openai ? "Error" : "any")}}}};
  json::object o{{"summary", doc.summary},
                 {"tags", json::array{route.is_inference() || route.pattern.starts_with("/v1/") ? "inference" : "administration"}},
                 {"parameters", parameters(route, doc)},
                 {"responses", std::move(responses)},
                 {"x-thaw-scope", to_string(route.rule.scope)},
                 {"x-thaw-roles", std::move(roles)}};
  if (!route.action.empty()) o["operationId"] = route.action;
  if (route.rule.scope == Scope::open) o["security"] = json::array{};
  if (!doc.request.empty()) {
    const bool form = route.body == BodyForm::form;
    o["requestBody"] = {{"required", true}, {"content", body_of(form ? "multipart/form-data" : "application/json", doc.request)}};
  }
  return o;
}

std::string lower(std::string_view text) {
  std::string all(text);
  for (char& c : all) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return all;
}

void indent(const json::value& value, const std::string& margin, std::string& out) {
  const std::string inner = margin + "  ";
  const auto list = [&](char open, char close, const auto& all, const auto& one) {
    out += open;
    bool first = true;
    for (const auto& entry : all) {
      out += (first ? "\n" : ",\n") + inner;
      one(entry);
      first = false;
    }
    if (!first) out += "\n" + margin;
    out += close;
  };
  if (const auto* object = value.if_object()) {
    list('{', '}', *object, [&](const json::key_value_pair& entry) {
      out += json::serialize(json::string(entry.key())) + ": ";
      indent(entry.value(), inner, out);
    });
  } else if (const auto* array = value.if_array()) {
    list('[', ']', *array, [&](const json::value& entry) { indent(entry, inner, out); });
  } else {
    out += json::serialize(value);
  }
}

}  // namespace

json::object shape_schema(std::string_view members) {
  json::object properties;
  json::array required;
  while (!members.empty()) {
    std::string_view member = take(members, " ");
    std::string_view key = take(member, ":");
    if (key.ends_with("?"))
      key.remove_suffix(1);
    else
      required.emplace_back(key);
    properties[key] = type_schema(member);
  }
  return {{"type", "object"}, {"properties", std::move(properties)}, {"required", std::move(required)}};
}

json::object openapi() {
  json::object schemas;
  for (const AnswerShape& shape : kAnswerShapes) schemas[shape.name] = shape_schema(shape.members);
  schemas[kModelSpec] = json::parse(spec::model_schema());
  json::object paths;
  for (const Route& route : route_table()) {
    const std::string path = path_of(route.pattern, parameter_of(route.pattern));
    json::object& methods = paths.contains(path) ? paths[path].get_object() : paths[path].emplace_object();
    methods[lower(route.method)] = operation(route, *doc_of(route.method, route.pattern));
  }
  return {{"openapi", "3.1.0"},
          {"info", {{"title", "Thaw"}, {"version", base::kVersion}, {"description", "Requests to models, and the administration of the server."}}},
          {"security", json::array{json::object{{"key", json::array{}}}}},
          {"paths", std::move(paths)},
          {"components", {{"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}, {"schemas", std::move(schemas)}}}};
}

std::string openapi_text() {
  std::string text;
  indent(openapi(), "", text);
  return text + "\n";
}

}  // namespace thaw::gateway
