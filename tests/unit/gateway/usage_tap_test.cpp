#include "gateway/usage_tap.h"

#include <gtest/gtest.h>

#include <string>

namespace thaw::gateway {
namespace {

const std::string kToken = "data: {\"choices\":[{\"delta\":{\"content\":\" word\"}}]}\n\n";
const std::string kUsage =
    "data: {\"choices\":[],\"usage\":{\"completion_tokens\":7,\"prompt_tokens\":12,\"total_tokens\":19,"
    "\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\n";
const std::string kTimings =
    "data: {\"choices\":[{\"delta\":{}}],\"timings\":{\"cache_n\":4,\"prompt_n\":8,\"prompt_ms\":3.6,\"predicted_n\":5,\"predicted_ms\":1.0}}\n\n";
const std::string kDone = "data: [DONE]\n\n";

void expect_counts(const UsageTap& tap, std::uint32_t prompt, std::uint32_t completion, const std::string& what) {
  EXPECT_EQ(tap.counts().prompt, prompt) << what;
  EXPECT_EQ(tap.counts().completion, completion) << what;
}

TEST(UsageTap, ReadsAWholeAnswer) {
  UsageTap tap;
  tap.document(R"({"choices":[{"message":{"content":"hi"}}],"usage":{"completion_tokens": 9 ,"prompt_tokens" : 21,"total_tokens":30}})");
  expect_counts(tap, 21, 9, "spaces around the colon");
}

TEST(UsageTap, AnAnswerWithoutCountsLeavesThemZero) {
  UsageTap tap;
  tap.document(R"({"error":{"message":"no"}})");
  tap.stream(kToken);
  tap.stream("data: {\"choices\":[],\"usage\":null}\n\n");
  expect_counts(tap, 0, 0, "none");
}

TEST(UsageTap, ReadsTheUsageEvent) {
  UsageTap tap;
  for (const std::string& event : {kToken, kToken, kUsage, kDone}) tap.stream(event);
  expect_counts(tap, 12, 7, "one event a piece");
}

TEST(UsageTap, ReadsTimingsWhereThereIsNoUsage) {
  UsageTap tap;
  tap.stream(kToken + kTimings + kDone);
  expect_counts(tap, 12, 5, "what came from the cache was part of the prompt");
}

TEST(UsageTap, AUsageEventAfterTheTimingsCounts) {
  UsageTap tap;
  tap.stream(kTimings);
  tap.stream(kUsage);
  tap.stream(kDone);
  expect_counts(tap, 12, 7, "usage wins");
}

TEST(UsageTap, ReadsTheNewerRoutesNames) {
  UsageTap tap;
  tap.document(R"({"object":"response","usage":{"input_tokens":11,"input_tokens_details":{"cached_tokens":4},"output_tokens":6,"total_tokens":17}})");
  expect_counts(tap, 11, 6, "a response: what was cached is in input_tokens");
  UsageTap message;
  message.document(R"({"type":"message","usage":{"cache_read_input_tokens":4,"input_tokens":7,"cache_creation_input_tokens":1,"output_tokens":6}})");
  expect_counts(message, 12, 6, "a message: what was cached is beside input_tokens");
}

const std::string kMessageStart =
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"cache_read_input_tokens\":5,\"input_tokens\":9,\"output_tokens\":1}}}\n\n";
const std::string kMessageDelta = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":8}}\n\n";

TEST(UsageTap, AMessagesStreamSaysWhatItReadFirstAndWhatItWroteLast) {
  const std::string stream = kMessageStart + kMessageDelta + "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
  UsageTap at_once;
  at_once.stream(stream);
  expect_counts(at_once, 14, 8, "in one piece");
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    UsageTap tap;
    tap.stream(stream.substr(0, cut));
    tap.stream(stream.substr(cut));
    expect_counts(tap, 14, 8, "cut at " + std::to_string(cut));
  }
}

// However the bytes are cut, on their way or by the chunk framing.
TEST(UsageTap, EveryCutGivesTheSameCounts) {
  const std::string stream = kToken + kUsage + kDone;
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    UsageTap tap;
    if (cut > 0) tap.stream(stream.substr(0, cut));
    if (cut < stream.size()) tap.stream(stream.substr(cut));
    expect_counts(tap, 12, 7, "cut at " + std::to_string(cut));
  }
}

TEST(UsageTap, OneByteAtATime) {
  UsageTap tap;
  for (const char c : kToken + kUsage + kDone) tap.stream(std::string_view(&c, 1));
  expect_counts(tap, 12, 7, "bytes");
}

TEST(UsageTap, TheEndOfTheUsageEventIsEnough) {
  UsageTap tap;
  tap.stream(kUsage.substr(0, kUsage.size() - 1));
  tap.stream("\n");
  expect_counts(tap, 12, 7, "no further event came");
}

TEST(UsageTap, TextThatLooksLikeUsageIsNone) {
  UsageTap tap;
  tap.stream("data: {\"choices\":[{\"delta\":{\"content\":\"{\\\"usage\\\":{\\\"prompt_tokens\\\":99,\\\"completion_tokens\\\":99}}\"}}]}\n\n");
  tap.document(R"({"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":5}"}}]})");
  expect_counts(tap, 0, 0, "inside a string");
}

TEST(UsageTap, AnEndlessEventIsLetGo) {
  UsageTap tap;
  tap.stream("data: {\"choices\":[{\"delta\":{\"content\":\"");
  for (int i = 0; i < 100; ++i) tap.stream(std::string(4096, 'x'));
  tap.stream("\"}}]}\n\n");
  tap.stream(kUsage);
  expect_counts(tap, 12, 7, "what came behind it is read");
}

TEST(UsageTap, NumbersOutOfRangeAreCapped) {
  UsageTap tap;
  tap.document(R"({"usage":{"prompt_tokens":99999999999999999999999,"completion_tokens":-5}})");
  expect_counts(tap, 4294967295U, 0, "capped, and a negative one is none");
}

TEST(UsageTap, SumsOfTimingsAreCapped) {
  UsageTap tap;
  tap.document(R"({"timings":{"cache_n":4294967295,"prompt_n":4294967295,"predicted_n":1}})");
  expect_counts(tap, 4294967295U, 1, "capped");
}

}  // namespace
}  // namespace thaw::gateway
