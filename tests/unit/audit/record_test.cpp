#include "audit/record.h"

#include <gtest/gtest.h>

namespace thaw::audit {
namespace {

Record sample() {
  Record record;
  record.seq = 7;
  record.unix_ms = 1'764'100'399'123;
  record.event = Event::begun;
  record.action = "model.deploy";
  record.who = "key:1";
  record.from = "127.0.0.1";
  record.method = "POST";
  record.route = "/admin/v1/models";
  record.subject = "stories";
  record.request = "req_1";
  record.status = 201;
  record.detail = "a \"quoted\" \\ and\nmore";
  record.prev = first_prev();
  return record;
}

TEST(AuditRecord, IsALineOfJsonThatCarriesItsHash) {
  const std::string line = encode(sample());
  EXPECT_TRUE(line.starts_with(
      R"({"seq":7,"time":"2025-11-25T19:53:19.123Z","event":"begun","action":"model.deploy","who":"key:1",)"))
      << line;
  EXPECT_NE(line.find(R"("detail":"a \"quoted\" \\ and\u000amore")"), std::string::npos) << line;
  const std::size_t hash = line.find(R"(,"hash":")");
  EXPECT_EQ(line.substr(hash + 9, kHashDigits), sha256_hex(line.substr(0, hash)));
  const auto read = decode(line);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(encode(*read), line);
  Record expected = sample();
  expected.hash = read->hash;
  EXPECT_EQ(*read, expected);
}

TEST(AuditRecord, ADigestIsTheOneOfTheStandard) {
  // FIPS 180-4's example.
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(AuditRecord, EveryByteOfALineMatters) {
  const std::string line = encode(sample());
  for (std::size_t i = 0; i < line.size(); ++i) {
    std::string altered = line;
    altered[i] = altered[i] == '1' ? '2' : '1';
    EXPECT_FALSE(decode(altered).ok()) << i << ": " << altered;
    EXPECT_FALSE(decode(line.substr(0, i)).ok()) << i;
  }
  EXPECT_FALSE(decode(line + " ").ok());
  EXPECT_FALSE(decode("").ok());
}

TEST(AuditRecord, WhatIsNoUtf8OrTooLongIsWrittenSoThatItCanBeRead) {
  Record record = sample();
  record.subject = std::string("a\xFF\xC0\x80 \xED\xA0\x80 \xF5") + '\0' + "\x7F \xE2\x82\xAC";
  record.detail = std::string(10'000, '\x01');
  record.who = std::string(511, 'x') + "\xE2\x82\xAC";  // the character would be cut in two
  const std::string line = encode(record);
  EXPECT_LE(line.size(), kMaxLineBytes);
  const auto read = decode(line);
  ASSERT_TRUE(read.ok()) << read.error().message << line;
  EXPECT_TRUE(read->subject.starts_with("a\xEF\xBF\xBD\xEF\xBF\xBD")) << read->subject;
  EXPECT_TRUE(read->subject.ends_with(std::string(1, '\0') + "\x7F \xE2\x82\xAC"));
  EXPECT_EQ(read->detail, std::string(Record::kMaxText, '\x01'));
  EXPECT_EQ(read->who, std::string(511, 'x'));
}

TEST(AuditRecord, TheLongestOneIsARecord) {
  Record record = sample();
  for (std::string* text : {&record.action, &record.who, &record.from, &record.method, &record.route, &record.subject,
                            &record.request, &record.detail})
    *text = std::string(9'999, '\x02');
  record.seq = ~0ULL;
  EXPECT_TRUE(decode(encode(record)).ok());
}

TEST(AuditRecord, TimesAreThoseOfTheCalendar) {
  EXPECT_EQ(format_time(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(format_time(-5), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(format_time(951'782'400'001), "2000-02-29T00:00:00.001Z");
  EXPECT_EQ(format_time(INT64_MAX), "9999-12-31T23:59:59.999Z");
}

}  // namespace
}  // namespace thaw::audit
