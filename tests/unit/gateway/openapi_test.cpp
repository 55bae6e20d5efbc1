#include "gateway/openapi.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <functional>
#include <set>
#include <string>

#include "gateway/answer_shapes.h"
#include "gateway/route_docs.h"
#include "gateway/routes.h"

namespace thaw::gateway {
namespace {

namespace json = boost::json;

/// Every "$ref" in it.
void references(const json::value& value, const std::function<void(const std::string&)>& found) {
  if (const auto* object = value.if_object()) {
    for (const auto& entry : *object) {
      if (entry.key() == "$ref") found(std::string(entry.value().get_string()));
      else references(entry.value(), found);
    }
  } else if (const auto* array = value.if_array()) {
    for (const auto& entry : *array) references(entry, found);
  }
}

TEST(OpenApi, HasEveryRouteWithItsMethodAndWhoMayCallIt) {
  const json::object document = openapi();
  std::size_t operations = 0;
  for (const auto& path : document.at("paths").get_object()) operations += path.value().get_object().size();
  EXPECT_EQ(operations, route_table().size());
  const json::object& stop = document.at("paths").at("/admin/v1/models/{name}/stop").at("post").get_object();
  EXPECT_EQ(stop.at("operationId"), "model.stop");
  EXPECT_EQ(stop.at("x-thaw-scope"), "own");
  EXPECT_EQ(json::serialize(stop.at("x-thaw-roles")), R"(["admin","deployer"])");
  EXPECT_EQ(json::serialize(stop.at("parameters").at(0).at("name")), R"("name")");
  EXPECT_EQ(json::serialize(stop.at("parameters").at(1)),
            R"({"name":"kill","in":"query","required":false,"description":"without waiting for requests","schema":{"type":"string","enum":["1"]}})");
}

TEST(OpenApi, EveryReferenceLeadsSomewhereAndEveryShapeIsUsed) {
  const json::object document = openapi();
  const json::object& schemas = document.at("components").at("schemas").get_object();
  std::set<std::string> used;
  references(document, [&](const std::string& reference) {
    constexpr std::string_view kPrefix = "#/components/schemas/";
    if (!reference.starts_with(kPrefix)) return;  // inside a specification's own schema
    used.insert(reference.substr(kPrefix.size()));
    EXPECT_TRUE(schemas.contains(reference.substr(kPrefix.size()))) << reference;
  });
  for (const AnswerShape& shape : kAnswerShapes) EXPECT_TRUE(used.contains(std::string(shape.name))) << shape.name << " is nobody's";
}

TEST(OpenApi, ShapesAreReadAsTheyAreMeant) {
  EXPECT_EQ(json::serialize(shape_schema("a:string b?:int|null c:[Key] d:{number} e:Key|null f:object g:any")),
            R"({"type":"object","properties":{"a":{"type":"string"},"b":{"type":["integer","null"]},"c":{"type":"array","items":{"$ref":"#/components/schemas/Key"}},)"
            R"("d":{"type":"object","additionalProperties":{"type":"number"}},"e":{"anyOf":[{"$ref":"#/components/schemas/Key"},{"type":"null"}]},)"
            R"("f":{"type":"object"},"g":{}},"required":["a","c","d","e","f","g"]})");
}

TEST(OpenApi, TheTextIsTheDocument) {
  EXPECT_EQ(json::serialize(json::parse(openapi_text())), json::serialize(openapi()));
}

TEST(OpenApi, RequestsToModelsSayWhatTheirBodyIs) {
  for (const Route& route : route_table()) {
    const RouteDoc* const doc = doc_of(route.method, route.pattern);
    ASSERT_NE(doc, nullptr);
    if (route.is_inference()) {
      EXPECT_EQ(doc->request, route.body == BodyForm::form ? "AskingByForm" : "Asking") << route.pattern;
    }
    if (route.method == "GET") {
      EXPECT_TRUE(doc->request.empty()) << route.pattern;
    }
  }
}

}  // namespace
}  // namespace thaw::gateway
