#include "observe/json_log.h"

#include <gtest/gtest.h>
#include <spdlog/details/log_msg.h>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <chrono>
#include <string>

namespace thaw::observe {
namespace {

std::string line_of(std::string_view message, spdlog::level::level_enum level = spdlog::level::info, std::int64_t unix_ms = 0) {
  const spdlog::log_clock::time_point time{std::chrono::milliseconds(unix_ms)};
  const spdlog::details::log_msg log_message(time, {}, "thaw", level, spdlog::string_view_t(message.data(), message.size()));
  spdlog::memory_buf_t out;
  make_json_formatter()->format(log_message, out);
  return {out.data(), out.size()};
}

boost::json::object object_of(const std::string& line) {
  EXPECT_EQ(line.find('\n'), line.size() - 1) << "one line each: " << line;
  boost::json::error_code error;
  const boost::json::value value = boost::json::parse(line, error);
  EXPECT_FALSE(error) << error.message() << ": " << line;
  return value.is_object() ? value.as_object() : boost::json::object{};
}

std::string message_of(std::string_view text) {
  const auto object = object_of(line_of(text));
  return object.contains("message") ? std::string(object.at("message").as_string()) : "absent";
}

TEST(JsonLog, OneObjectALine) {
  EXPECT_EQ(line_of("m: ready", spdlog::level::warn, 1'795'485'600'042),
            "{\"time\":\"2026-11-24T02:00:00.042Z\",\"level\":\"warning\",\"message\":\"m: ready\"}\n");
}

TEST(JsonLog, AnyTextComesBackAsItWas) {
  for (const std::string text : {"", "plain", "say \"no\"", "C:\\path\\n", "line\nbreak\r\n\ttab", "caf\u00e9 \u2603 \U0001f9ca", "{\"a\":1}"})
    EXPECT_EQ(message_of(text), text);
  std::string controls;
  for (char c = 0; c < 0x20; ++c) controls += c;
  controls += '\x7f';
  EXPECT_EQ(message_of(controls), controls);
}

// Engines' words go into the log; whoever collects it reads JSON.
TEST(JsonLog, BytesThatAreNoUtf8AreReplaced) {
  EXPECT_EQ(message_of("bad \xff byte, cut \xe2\x82"), "bad \ufffd byte, cut \ufffd\ufffd");
  EXPECT_EQ(message_of(std::string_view("\xc0\x80", 2)), "\ufffd\ufffd") << "an overlong form";
}

TEST(JsonLog, ACloneFormatsTheSame) {
  const spdlog::details::log_msg message(spdlog::log_clock::time_point{}, {}, "thaw", spdlog::level::err, "x");
  spdlog::memory_buf_t first;
  spdlog::memory_buf_t second;
  const auto formatter = make_json_formatter();
  formatter->format(message, first);
  formatter->clone()->format(message, second);
  EXPECT_EQ(std::string(first.data(), first.size()), std::string(second.data(), second.size()));
}

}  // namespace
}  // namespace thaw::observe
