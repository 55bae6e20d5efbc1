// Aliases and parameters of a model's spec.
#include <gtest/gtest.h>

#include "spec/parse.h"

namespace thaw::spec {
namespace {

std::string text_with(const std::string& lines) {
  return "apiVersion: thaw/v1\nkind: Model\nmetadata: {name: m}\nspec:\n  source: {path: /m.gguf}\n" + lines;
}

ModelSpec parse(const std::string& lines) {
  auto result = parse_model(text_with(lines), "m.yaml", "/");
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
  return result.ok() ? *result : ModelSpec{};
}

std::string error(const std::string& lines) {
  const auto result = parse_model(text_with(lines), "m.yaml", "/");
  return result.ok() ? "(no error)" : result.error().message;
}

constexpr const char* kParameters = R"(  parameters:
    defaults: {temperature: 0.2, stop: ["\n", "END"], user: "17", seed: 17, nested: {a: [1, {b: true}]}, nothing: null}
    overrides:
      max_tokens: 1024
      cache_prompt: false
)";

TEST(Parameters, AreReadAsTheJsonThatTheyStandFor) {
  const Parameters parameters = parse(kParameters).parameters;
  const std::vector<Parameters::Entry> defaults{{"temperature", "2E-1"},          {"stop", R"(["\n","END"])"},           {"user", R"("17")"}, {"seed", "17"},
                                                {"nested", R"({"a":[1,{"b":true}]})"}, {"nothing", "null"}};
  EXPECT_EQ(parameters.defaults, defaults);
  EXPECT_EQ(parameters.overrides, (std::vector<Parameters::Entry>{{"max_tokens", "1024"}, {"cache_prompt", "false"}}));
}

TEST(Parameters, SurviveBeingStored) {
  const ModelSpec spec = parse(std::string(kParameters) + "  aliases: [gpt-4o, default]\n");
  const auto again = parse_model(to_json(spec), "stored", "/");
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(again->parameters.defaults, spec.parameters.defaults);
  EXPECT_EQ(again->parameters.overrides, spec.parameters.overrides);
  EXPECT_EQ(again->aliases, (std::vector<std::string>{"gpt-4o", "default"}));
  EXPECT_EQ(to_json(*again), to_json(spec));
}

TEST(Parameters, WhatIsNotForAModelToSetIsRefusedWithItsPlace) {
  EXPECT_EQ(error("  parameters: {defaults: {model: x}}\n"),
            "m.yaml:6:27: spec.parameters.defaults.model: is not for a model to set: it says where a request goes, or how it is answered");
  EXPECT_NE(error("  parameters: {overrides: {stream: true}}\n").find("spec.parameters.overrides.stream: is not for a model to set"), std::string::npos);
  EXPECT_NE(error("  parameters: {defaults: {a: 1}, overrides: {a: 2}}\n").find("a is in overrides, too"), std::string::npos);
  EXPECT_NE(error("  parameters: {defaults: {a: 1, a: 2}}\n").find("given twice"), std::string::npos);
  EXPECT_NE(error("  parameters: {defaults: {x: {a: 1, a: 2}}}\n").find("given twice"), std::string::npos);
  EXPECT_NE(error("  parameters: {defaults: {\"a\\\"b\": 1}}\n").find("is no parameter's name"), std::string::npos);
  EXPECT_NE(error("  parameters: {defaults: [1]}\n").find("must be a mapping"), std::string::npos);
  EXPECT_NE(error("  parameters: {default: {}}\n").find("did you mean defaults?"), std::string::npos);
  EXPECT_NE(error("  parameters: {defaults: {a: \"" + std::string(20'000, 'x') + "\"}}\n").find("is too long"), std::string::npos);
}

TEST(Aliases, AreNamesAndNotTheModelsOwn) {
  EXPECT_EQ(parse("  aliases: []\n").aliases.size(), 0U);
  EXPECT_EQ(error("  aliases: [m]\n"), "m.yaml:6:12: spec.aliases: \"m\" is the model's own name");
  EXPECT_NE(error("  aliases: [a, a]\n").find("spec.aliases[1]: \"a\" is there already"), std::string::npos);
  for (const char* bad : {"Big", "a b", "x~y", "-a", "a/b", "\"\""})
    EXPECT_NE(error(std::string("  aliases: [") + bad + "]\n").find("is no name"), std::string::npos) << bad;
  EXPECT_NE(error("  aliases: x\n").find("must be a list"), std::string::npos);
  std::string many = "  aliases: [";
  for (int n = 0; n < 17; ++n) many += "a" + std::to_string(n) + ", ";
  EXPECT_NE(error(many + "]\n").find("at most 16"), std::string::npos);
}

}  // namespace
}  // namespace thaw::spec
