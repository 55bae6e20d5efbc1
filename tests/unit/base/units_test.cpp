#include "base/units.h"

#include <gtest/gtest.h>

namespace thaw::base {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;

std::uint64_t bytes(const char* text) {
  const auto result = parse_bytes(text);
  EXPECT_TRUE(result.ok()) << text << ": " << (result.ok() ? "" : result.error().message);
  return result.ok() ? *result : 0;
}

Duration duration(const char* text) {
  const auto result = parse_duration(text);
  EXPECT_TRUE(result.ok()) << text << ": " << (result.ok() ? "" : result.error().message);
  return result.ok() ? *result : Duration(-1);
}

TEST(ParseBytes, KnowsTheUnitsPeopleWrite) {
  EXPECT_EQ(bytes("0"), 0U);
  EXPECT_EQ(bytes("4096"), 4096U);
  EXPECT_EQ(bytes("1B"), 1U);
  EXPECT_EQ(bytes("2k"), 2'000U);
  EXPECT_EQ(bytes("200MB"), 200'000'000U);
  EXPECT_EQ(bytes("64Mi"), 64U << 20);
  EXPECT_EQ(bytes("64MiB"), 64U << 20);
  EXPECT_EQ(bytes("1.5GiB"), 1'610'612'736U);
  EXPECT_EQ(bytes("0.1k"), 100U);
  EXPECT_EQ(bytes("3TiB"), 3ULL << 40);
}

TEST(ParseBytes, IsExactAboveWhatADoubleHolds) {
  EXPECT_EQ(bytes("9007199254740993"), 9'007'199'254'740'993U);  // 2^53 + 1
  EXPECT_EQ(bytes("9223372036854775807"), 9'223'372'036'854'775'807U);
}

TEST(ParseBytes, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", " 1", "-1", "+1", "MiB", "1 MiB", "1mib", "1.", ".5", "1e9", "0x10", "nan", "inf", "1MiBx"})
    EXPECT_FALSE(parse_bytes(text).ok()) << text;
  EXPECT_EQ(parse_bytes("5 apples").error().message,
            "\"5 apples\" has the unknown unit \" apples\"; use B, kB, MB, GB, TB, KiB, MiB, GiB or TiB");
  EXPECT_EQ(parse_bytes("-5").error().message, "\"-5\" is no size; write it like 64MiB or 2GiB");
}

TEST(ParseBytes, RefusesOverflow) {
  for (const char* text : {"9223372036854775808", "18446744073709551616", "99999999999999999999999999", "8388608TiB",
                           "9223372036854775807k"})
    EXPECT_EQ(parse_bytes(text).error().message,
              "\"" + std::string(text) + "\" is too large; a size has at most 63 bits");
}

TEST(ParseDuration, AddsItsParts) {
  EXPECT_EQ(duration("300ms"), Millis(300));
  EXPECT_EQ(duration("5s"), Seconds(5));
  EXPECT_EQ(duration("1m30s"), Seconds(90));
  EXPECT_EQ(duration("2h"), hours(2));
  EXPECT_EQ(duration("1.5s"), Millis(1500));
  EXPECT_EQ(duration("7us"), microseconds(7));
  EXPECT_EQ(duration("0s"), Duration(0));
  EXPECT_EQ(duration("8760h"), hours(8760));
}

TEST(ParseDuration, IsExactAboveWhatADoubleHolds) {
  EXPECT_EQ(duration("9007199254740993ns"), nanoseconds(9'007'199'254'740'993));
}

TEST(ParseDuration, WantsAUnit) {
  for (const char* text : {"", "5", "-5s", "s", "5 s", "5sec", "1m 30s", "5S", "5s5", "1..5s", "d", "1d"})
    EXPECT_EQ(parse_duration(text).error().message,
              "\"" + std::string(text) + "\" is no duration; write it like 300ms, 5s, 1m30s or 2h");
}

TEST(ParseDuration, EndsAtOneYear) {
  for (const char* text : {"8761h", "8760h1ns", "18446744073709551616h", "99999999999999999999999999s", "8760h8760h"})
    EXPECT_EQ(parse_duration(text).error().message, "\"" + std::string(text) + "\" is longer than 365 days");
}

TEST(FormatBytes, RoundsToOneDecimal) {
  EXPECT_EQ(format_bytes(0), "0B");
  EXPECT_EQ(format_bytes(1023), "1023B");
  EXPECT_EQ(format_bytes(1536), "1.5KiB");
  EXPECT_EQ(format_bytes(64ULL << 20), "64MiB");
  EXPECT_EQ(format_bytes(5000ULL << 40), "5000TiB");
}

TEST(FormatDuration, PicksTheUnit) {
  EXPECT_EQ(format_duration(nanoseconds(12)), "12ns");
  EXPECT_EQ(format_duration(microseconds(250)), "250us");
  EXPECT_EQ(format_duration(Millis(1500)), "1.5s");
  EXPECT_EQ(format_duration(Seconds(90)), "1m30s");
  EXPECT_EQ(format_duration(minutes(120)), "2h");
  EXPECT_EQ(format_duration(minutes(150)), "2h30m");
}

TEST(Format, IsReadBack) {
  for (const std::uint64_t value : {0ULL, 1ULL, 1536ULL, 64ULL << 20, 3ULL << 40})
    EXPECT_EQ(bytes(format_bytes(value).c_str()), value);
  for (const Duration value :
       {Duration(0), Duration(999), Duration(Millis(1500)), Duration(Seconds(90)), Duration(minutes(150))})
    EXPECT_EQ(duration(format_duration(value).c_str()), value);
}

}  // namespace
}  // namespace thaw::base
