#include "gateway/api_error.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <string>

namespace thaw::gateway {
namespace {

using base::Millis;
using base::Seconds;
using Why = control::Refuse::Why;

std::string headers_after(int status, base::Duration retry_after) { return ApiError{status, "", "", "", "", retry_after}.headers(); }

boost::json::object object_of(const ApiError& error) { return boost::json::parse(error.json()).at("error").as_object(); }

TEST(ApiError, IsTheObjectThatClientsKnow) {
  const auto object = object_of({404, "invalid_request_error", "model_not_found", "no \"m\"\n", "model", {}});
  EXPECT_EQ(object.size(), 4U);
  EXPECT_EQ(object.at("message"), "no \"m\"\n");
  EXPECT_EQ(object.at("type"), "invalid_request_error");
  EXPECT_EQ(object.at("param"), "model");
  EXPECT_EQ(object.at("code"), "model_not_found");
}

TEST(ApiError, SpeaksAnthropicWhereThatIsSpoken) {
  const ApiError error{429, "rate_limit_error", "queue_full", "no room", "model", {}};
  EXPECT_EQ(error.json(Dialect::openai, "req_1"), error.json());
  EXPECT_EQ(error.json(Dialect::anthropic, "req_1"), R"({"type":"error","error":{"type":"rate_limit_error","message":"no room"},"request_id":"req_1"})");
  EXPECT_EQ(error.event(Dialect::openai, "req_1"), "data: " + error.json() + "\n\n");
  EXPECT_EQ(error.event(Dialect::anthropic, "req_1"), "event: error\ndata: " + error.json(Dialect::anthropic, "req_1") + "\n\n");
}

TEST(ApiError, AnEnginesErrorIsPutInAnthropicsWords) {
  EXPECT_EQ(to_anthropic(400, R"({"error":{"message":"bad","type":"x"}})", "r"), R"({"type":"error","error":{"type":"invalid_request_error","message":"bad"},"request_id":"r"})");
  EXPECT_EQ(to_anthropic(500, "oops", "r"), R"({"type":"error","error":{"type":"api_error","message":"oops"},"request_id":"r"})");
  const std::string own = R"({"type":"error","error":{"type":"not_found_error","message":"m"}})";
  EXPECT_EQ(to_anthropic(404, own, "r"), own);
  EXPECT_EQ(to_anthropic(422, R"({"detail":"no such field"})", "r"),
            R"({"type":"error","error":{"type":"invalid_request_error","message":"no such field"},"request_id":"r"})");
  EXPECT_EQ(to_anthropic(400, R"({"object":"error","message":"too long","code":400})", "r"),
            R"({"type":"error","error":{"type":"invalid_request_error","message":"too long"},"request_id":"r"})");
  EXPECT_EQ(to_anthropic(404, "[1]", "r"), R"({"type":"error","error":{"type":"not_found_error","message":"[1]"},"request_id":"r"})");
}

TEST(ApiError, WhatIsNotGivenIsNull) {
  const auto object = object_of(invalid_request("bad"));
  EXPECT_TRUE(object.at("param").is_null());
  EXPECT_TRUE(object.at("code").is_null());
}

// An engine's last words may hold anything; a client's JSON parser takes UTF-8 only.
TEST(ApiError, BytesThatAreNoUtf8AreReplaced) {
  const auto object = object_of({503, "server_error", "start_failed", "bad \xff\xfe byte, caf\xc3\xa9, cut \xe2\x82", {}, {}});
  EXPECT_EQ(object.at("message"), "bad \ufffd\ufffd byte, caf\u00e9, cut \ufffd\ufffd");
}

TEST(ApiError, RetryAfterStaysWithinWhatClientsObey) {
  EXPECT_EQ(headers_after(503, Millis(1)), "Retry-After: 1\r\nretry-after-ms: 1000\r\n");
  EXPECT_EQ(headers_after(503, Seconds(1)), "Retry-After: 1\r\nretry-after-ms: 1000\r\n");
  EXPECT_EQ(headers_after(429, Millis(1500)), "Retry-After: 2\r\nretry-after-ms: 1500\r\n") << "whole seconds are rounded up";
  EXPECT_EQ(headers_after(503, Seconds(60)), "Retry-After: 60\r\nretry-after-ms: 60000\r\n");
  EXPECT_EQ(headers_after(503, std::chrono::hours(2)), "Retry-After: 60\r\nretry-after-ms: 60000\r\n");
  EXPECT_EQ(headers_after(503, base::Duration::max()), "Retry-After: 60\r\nretry-after-ms: 60000\r\n");
}

TEST(ApiError, WithoutAPointInRetryingClientsAreTold) {
  EXPECT_EQ(headers_after(502, {}), "x-should-retry: false\r\n");
  EXPECT_EQ(headers_after(429, {}), "x-should-retry: false\r\n");
  EXPECT_EQ(headers_after(400, {}), "") << "no client retries these by itself";
}

TEST(ApiError, EachRefusalHasItsStatus) {
  const auto status = [](Why why) { return refused({base::RequestId(1), why, "why", Seconds(2)}).status; };
  EXPECT_EQ(status(Why::queue_full), 429);
  EXPECT_EQ(status(Why::queue_timeout), 503);
  EXPECT_EQ(status(Why::no_capacity), 503);
  EXPECT_EQ(status(Why::start_failed), 503);
  EXPECT_EQ(status(Why::replica_failed), 502);
  EXPECT_EQ(status(Why::model_removed), 404);
  EXPECT_EQ(status(Why::draining), 503);
  const ApiError error = refused({base::RequestId(1), Why::queue_full, "too many", Seconds(2)});
  EXPECT_EQ(error.type, "rate_limit_error");
  EXPECT_EQ(error.code, "queue_full");
  EXPECT_EQ(error.message, "too many");
  EXPECT_EQ(error.retry_after, Seconds(2));
}

TEST(ApiError, EachKindOfErrorHasItsStatus) {
  using base::ErrorKind;
  const auto status = [](ErrorKind kind) { return from_error({kind, "what"}).status; };
  EXPECT_EQ(status(ErrorKind::invalid), 400);
  EXPECT_EQ(status(ErrorKind::denied), 403);
  EXPECT_EQ(status(ErrorKind::not_found), 404);
  EXPECT_EQ(status(ErrorKind::conflict), 409);
  EXPECT_EQ(status(ErrorKind::exhausted), 422);
  EXPECT_EQ(status(ErrorKind::io), 500);
  EXPECT_EQ(status(ErrorKind::internal), 500);
  EXPECT_EQ(status(ErrorKind::unavailable), 503);
  EXPECT_EQ(status(ErrorKind::timeout), 504);
  for (const int known : {400, 403, 404, 409, 422, 429, 500, 502, 503, 504}) EXPECT_STRNE(reason_phrase(known), "Other") << known;
}

}  // namespace
}  // namespace thaw::gateway
