#include "gateway/body_scan.h"

#include <gtest/gtest.h>

#include <string>

namespace thaw::gateway {
namespace {

std::string error_of(std::string_view body) {
  const auto facts = scan_body(body);
  return facts.ok() ? "accepted, model " + facts->model : facts.error().message;
}
std::string model_of(std::string_view body) {
  const auto facts = scan_body(body);
  return facts.ok() ? facts->model : "error: " + facts.error().message;
}
std::string nested(std::size_t depth) {
  return R"({"model":"m","x":)" + std::string(depth, '[') + std::string(depth, ']') + "}";
}

TEST(BodyScan, FindsModelAndStream) {
  const auto facts = scan_body(R"({"messages":[{"role":"user","content":"hi"}],"stream":true,"model":"stories"})");
  ASSERT_TRUE(facts.ok()) << facts.error().message;
  EXPECT_EQ(facts->model, "stories");
  EXPECT_TRUE(facts->stream);
}

TEST(BodyScan, StreamIsFalseWhenAbsentFalseOrNull) {
  for (const char* body : {R"({"model":"m"})", R"({"model":"m","stream":false})", R"({"stream":null,"model":"m"})"}) {
    const auto facts = scan_body(body);
    ASSERT_TRUE(facts.ok()) << body;
    EXPECT_FALSE(facts->stream) << body;
  }
}

// The engine reads the same body: of a repeated member both must take the same one, its parser the last.
TEST(BodyScan, TheLastOfRepeatedMembersCounts) {
  EXPECT_EQ(model_of(R"({"model":"first","model":"last"})"), "last");
  EXPECT_FALSE(scan_body(R"({"model":"m","stream":true,"stream":false})")->stream);
  EXPECT_FALSE(scan_body(R"({"model":"m","stream":true,"stream":null})")->stream);
}

TEST(BodyScan, OnlyTheTopLevelCounts) {
  EXPECT_EQ(model_of(R"({"a":{"model":"inner","stream":true},"model":"outer","b":[{"model":"later"}]})"), "outer");
  const auto facts = scan_body(R"({"model":"m","stream_options":{"stream":true}})");
  ASSERT_TRUE(facts.ok());
  EXPECT_FALSE(facts->stream);
  EXPECT_EQ(error_of(R"({"a":{"model":"inner"}})"), "\"model\" is missing; name one of GET /v1/models");
}

TEST(BodyScan, EscapesAreDecodedInNamesAndValues) {
  EXPECT_EQ(model_of(R"({"mod\u0065l":"sto\u0072ies"})"), "stories");
  EXPECT_EQ(model_of(R"({"model":"a\"b\\c\n"})"), "a\"b\\c\n");
  EXPECT_EQ(model_of("{\"model\":\"m\u00e9\"}"), "m\u00e9");
}

TEST(BodyScan, ALongNameIsNoOther) {
  const std::string tail(1000, 'x');
  EXPECT_NE(model_of(R"({"model":"stories)" + tail + "\"}"), "stories");
  // In two parts, as the parser hands out what has an escape in it.
  EXPECT_NE(model_of(R"({"model":"stories\u0078)" + tail + "\"}"), "stories");
  EXPECT_EQ(model_of(R"({"model":"stories\u0078)" + tail + "\"}").substr(0, 8), "storiesx");
  EXPECT_EQ(model_of(R"({"model":"m",")" + std::string(100, 'k') + R"(\u0078model":"n"})"), "m");
}

TEST(BodyScan, WrongTypesSayWhatIsNeeded) {
  for (const char* value : {"1", "-1", "1.5", "true", "null", "[]", "{}", R"(["m"])"})
    EXPECT_EQ(error_of(R"({"model":)" + std::string(value) + "}"), "\"model\" must be a string") << value;
  for (const char* value : {"1", "1.5", R"("true")", "[]", "{}"})
    EXPECT_EQ(error_of(R"({"model":"m","stream":)" + std::string(value) + "}"), "\"stream\" must be true or false") << value;
}

TEST(BodyScan, AModelMustBeNamed) {
  for (const char* body : {"{}", R"({"model":""})", R"({"Model":"m"})", R"({"":"m"})"})
    EXPECT_EQ(error_of(body), "\"model\" is missing; name one of GET /v1/models") << body;
}

TEST(BodyScan, OnlyAnObjectWillDo) {
  for (const char* body : {"[]", R"(["model","m"])", R"([{"model":"m"}])", "1", "null", R"("model")"})
    EXPECT_EQ(error_of(body), "the body must be a JSON object") << body;
}

TEST(BodyScan, InvalidJsonNamesThePlace) {
  EXPECT_EQ(error_of(R"({"model":"m",})").substr(0, 24), "invalid JSON at byte 13:");
  for (const char* body : {"", " ", "{", R"({"model":"m")", R"({"model":"m"}})", R"({"model":"m"} x)", R"({"model":"m"}{"model":"n"})", "{'model':'m'}",
                           R"({"model":"m" /* no */})", "{\"model\":\"m\n\"}", "{\"model\":\"m\",\"x\":\"\xff\"}", R"({"model":"\ud800"})", R"({"model":"m","x":01})",
                           R"({"model":"m","x":NaN})"})
    EXPECT_EQ(error_of(body).substr(0, 21), "invalid JSON at byte ") << body;
}

std::uint64_t affinity_in(const std::string& rest) {
  const auto facts = scan_body(R"({"model":"m",)" + rest + "}");
  return facts.ok() ? facts->affinity : 0;
}

TEST(Affinity, EveryTurnOfAConversationHasTheSame) {
  const std::string first = R"({"role":"system","content":"be brief"},{"role":"user","content":"a \"cat\""})";
  const std::uint64_t one = affinity_in(R"("messages":[)" + first + "]");
  EXPECT_NE(one, 0U);
  EXPECT_EQ(one, affinity_in(R"("messages":[)" + first + R"(,{"role":"assistant","content":"yes"},{"content":"and?","role":"user"}])"));
  EXPECT_NE(one, affinity_in(R"("messages":[{"role":"system","content":"be brief"},{"role":"user","content":"a dog"}])"));
  EXPECT_NE(one, affinity_in(R"("messages":[{"role":"system","content":"be long"},{"role":"user","content":"a \"cat\""}])"));
}

TEST(Affinity, PartsOfAMessageCount) {
  const auto parts = [](const std::string& text) {
    return affinity_in(R"("messages":[{"role":"user","content":[{"type":"text","text":")" + text + R"("}]}])");
  };
  EXPECT_EQ(parts("one"), parts("one"));
  EXPECT_NE(parts("one"), parts("two"));
}

TEST(Affinity, WhatTheClientNamesCountsFirst) {
  const std::string prompt = R"("prompt":"once upon")";
  EXPECT_NE(affinity_in(prompt), 0U);
  EXPECT_EQ(affinity_in(prompt + R"(,"prompt_cache_key":"k","user":"u")"), affinity_of("k"));
  EXPECT_EQ(affinity_in(prompt + R"(,"user":"u")"), affinity_of("u"));
  EXPECT_EQ(affinity_in(R"("user":7,"prompt":"once upon")"), affinity_in(prompt));
}

TEST(Affinity, OnlyTheBeginningCountsAndOnlyOfThePrompt) {
  const std::string begin(kAffinityBytes, 'x');
  EXPECT_EQ(affinity_in(R"("prompt":")" + begin + R"(one")"), affinity_in(R"("prompt":")" + begin + R"(two")"));
  EXPECT_EQ(affinity_in(R"("stop":"x","metadata":{"a":"b"})"), 0U);
  EXPECT_EQ(affinity_in(R"("input":[1,2])"), 0U);
  EXPECT_EQ(affinity_of(""), 0U);
}

TEST(BodyScan, SpaceAroundIsFine) { EXPECT_EQ(model_of(" \r\n\t{\"model\" : \"m\" } \r\n"), "m"); }

TEST(BodyScan, DepthIsBounded) {
  EXPECT_EQ(model_of(nested(60)), "m");
  EXPECT_EQ(error_of(nested(100)).substr(0, 21), "invalid JSON at byte ");
  EXPECT_EQ(error_of(nested(1'000'000)).substr(0, 21), "invalid JSON at byte ");
}

}  // namespace
}  // namespace thaw::gateway
