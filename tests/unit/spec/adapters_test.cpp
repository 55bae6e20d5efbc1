// The parts of a spec that are about adapters (LoRA).
#include <gtest/gtest.h>

#include "spec/parse.h"

namespace thaw::spec {
namespace {

constexpr const char* kHead = "apiVersion: thaw/v1\nkind: Model\nmetadata: {name: tone}\n";

std::string error(const std::string& spec) {
  const auto result = parse_model(kHead + ("spec: " + spec), "m.yaml", "/models");
  return result.ok() ? "(no error)" : result.error().message;
}

void expect_mentions(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(AdapterSpec, NamesItsBaseAndHasOnlyWhatIsItsOwn) {
  const auto spec = parse_model(std::string(kHead) +
                                    "spec: {base: chat, source: {path: tone.gguf}, aliases: [voice], parameters: "
                                    "{defaults: {temperature: 0.2}}, requestTimeout: 30s}",
                                "m.yaml", "/models");
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_TRUE(spec->is_adapter());
  EXPECT_EQ(spec->base_model, "chat");
  EXPECT_EQ(spec->source.path, "/models/tone.gguf");
  const std::string json = to_json(*spec);
  EXPECT_EQ(json.find("scaling"), std::string::npos) << json;
  const auto again = parse_model(json, "", "");
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(to_json(*again), json);
  EXPECT_EQ(again->request_timeout, base::Seconds(30));
  EXPECT_TRUE(validate(*spec).ok());
}

TEST(AdapterSpec, RefusesWhatItsBaseDecides) {
  for (const char* key : {"scaling: {maxReplicas: 2}", "resources: {cpus: 1}", "args: [x]", "env: {A: b}",
                          "snapshot: {mode: never}", "priority: high", "adapters: []"}) {
    const std::string text = error("{base: chat, source: {path: t.gguf}, " + std::string(key) + "}");
    expect_mentions(text, std::string("spec.") + std::string(key).substr(0, std::string(key).find(':')));
    expect_mentions(text, "set it for model \"chat\"");
  }
  expect_mentions(error("{base: tone, source: {path: t.gguf}}"), "is the model itself");
  expect_mentions(error("{base: Chat, source: {path: t.gguf}}"), "is no model's name");
  expect_mentions(error("{base: chat}"), "source");
  expect_mentions(error("{base: chat, engine: command, source: {path: t.gguf}}"), "spec.engine");
}

TEST(AdapterSpec, ABaseIsReadBackWithItsAdapters) {
  auto spec = parse_model(std::string(kHead) + "spec: {source: {path: m.gguf}}", "m.yaml", "/models");
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(to_json(*spec).find("adapters"), std::string::npos);
  spec->adapters = {{"a", "/models/a.gguf", 10}, {"b", "/models/b.gguf", 20}};
  const auto again = parse_model(to_json(*spec), "", "");
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_TRUE(same_adapters(again->adapters, spec->adapters));
  EXPECT_EQ(again->adapters[1].bytes, 20U);
  EXPECT_EQ(place_of_adapter(*again, "b", "/models/b.gguf"), 1U);
  EXPECT_FALSE(place_of_adapter(*again, "b", "/models/other.gguf"));
  EXPECT_FALSE(place_of_adapter(*again, "c", "/models/b.gguf"));
}

}  // namespace
}  // namespace thaw::spec
