#include <arpa/inet.h>

#include <gtest/gtest.h>

#include "node/pull/address_rule.h"
#include "node/pull/http_rules.h"
#include "node/pull/journal.h"
#include "node/pull/range_plan.h"
#include "node/pull/set_entry.h"

namespace thaw::node::pull {
namespace {

bool is_public_text(const std::string& text) {
  sockaddr_storage storage{};
  auto* in = reinterpret_cast<sockaddr_in*>(&storage);
  auto* in6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (::inet_pton(AF_INET, text.c_str(), &in->sin_addr) == 1)
    in->sin_family = AF_INET;
  else if (::inet_pton(AF_INET6, text.c_str(), &in6->sin6_addr) == 1)
    in6->sin6_family = AF_INET6;
  else
    ADD_FAILURE() << text;
  const auto& address = reinterpret_cast<const sockaddr&>(storage);
  EXPECT_EQ(format_address(address), text);
  return is_public(address);
}

TEST(AddressRule, KnowsWhatIsNotTheInternet) {
  for (const char* address : {"0.0.0.0",
                              "10.0.0.1",
                              "10.255.255.255",
                              "100.64.0.1",
                              "127.0.0.1",
                              "127.9.9.9",
                              "169.254.169.254",
                              "172.16.0.1",
                              "172.31.255.255",
                              "192.0.0.1",
                              "192.168.1.1",
                              "198.18.0.1",
                              "224.0.0.1",
                              "255.255.255.255",
                              "::",
                              "::1",
                              "fe80::1",
                              "fc00::1",
                              "fd12:3456::1",
                              "ff02::1",
                              "::ffff:127.0.0.1",
                              "::ffff:10.0.0.1",
                              "64:ff9b::a00:1",
                              "2002:7f00:1::",
                              "2001:db8::1",
                              "2001::1",
                              "fec0::1",
                              "100::1",
                              "4000::1"})
    EXPECT_FALSE(is_public_text(address)) << address;
  for (const char* address :
       {"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "223.255.255.255",
        "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"})
    EXPECT_TRUE(is_public_text(address)) << address;
  sockaddr other{};
  other.sa_family = AF_UNIX;
  EXPECT_FALSE(is_public(other));
}

TEST(RangeSet, JoinsAndTakesAway) {
  RangeSet set;
  set.add({10, 20});
  set.add({30, 40});
  EXPECT_EQ(set.prefix(), 0U);
  set.add({0, 10});
  EXPECT_EQ(set.prefix(), 20U);
  EXPECT_EQ(set.ranges(), (std::vector<Range>{{0, 20}, {30, 40}}));
  set.add({15, 35});
  EXPECT_EQ(set.ranges(), (std::vector<Range>{{0, 40}}));
  set.remove({5, 8});
  set.remove({35, 100});
  EXPECT_EQ(set.ranges(), (std::vector<Range>{{0, 5}, {8, 35}}));
  EXPECT_EQ(set.bytes(), 32U);
  EXPECT_EQ(set.first_gap(0, 50), (Range{5, 8}));
  EXPECT_EQ(set.first_gap(6, 50), (Range{6, 8}));
  EXPECT_EQ(set.first_gap(9, 50), (Range{35, 50}));
  EXPECT_EQ(set.first_gap(9, 35), std::nullopt);
  set.add({7, 7});
  EXPECT_EQ(set.bytes(), 32U);
}

/// Against a bitmap: every byte counts.
TEST(RangeSet, IsASetOfBytes) {
  std::uint32_t seed = 7;
  const auto random = [&seed](std::uint32_t below) { return (seed = seed * 1664525 + 1013904223) / 65536 % below; };
  RangeSet set;
  std::vector<bool> bytes(200);
  for (int i = 0; i < 3'000; ++i) {
    const std::uint64_t begin = random(200);
    const std::uint64_t end = std::min<std::uint64_t>(200, begin + random(30));
    const bool adds = random(2) == 0;
    if (adds)
      set.add({begin, end});
    else
      set.remove({begin, end});
    for (std::uint64_t at = begin; at < end; ++at) bytes[at] = adds;
    std::uint64_t last = 0;
    std::vector<bool> seen(200);
    bool first = true;
    for (const Range& range : set.ranges()) {
      ASSERT_LT(range.begin, range.end);
      ASSERT_TRUE(first || range.begin > last) << "they touch";
      first = false;
      last = range.end;
      for (std::uint64_t at = range.begin; at < range.end; ++at) seen[at] = true;
    }
    ASSERT_EQ(seen, bytes);
  }
}

TEST(RangePlan, AsksForMoreWhereAskingTakesTime) {
  EXPECT_EQ(RangePlan::worth_asking_for(base::Millis(0), 1e9), RangePlan::kUsual);
  EXPECT_EQ(RangePlan::worth_asking_for(base::Millis(50), 10e6), 10'000'000U) << "a second, when asking takes a twentieth of one";
  EXPECT_EQ(RangePlan::worth_asking_for(base::Seconds(10), 1e9), RangePlan::kLongest);
}

TEST(RangePlan, GivesEveryByteOnceInPiecesThatGetShorter) {
  RangeSet have;
  have.add({100, 1'000});
  constexpr std::uint64_t kTotal = (3ULL << 30) + 77;
  RangePlan plan(kTotal, have, 4);
  RangeSet claimed = have;
  std::uint64_t longest = 0;
  std::uint64_t last = 0;
  while (const auto piece = plan.claim()) {
    ASSERT_GT(piece->bytes(), 0U);
    const std::uint64_t before = claimed.bytes();
    claimed.add(*piece);
    ASSERT_EQ(claimed.bytes(), before + piece->bytes()) << "asked for twice";
    longest = std::max(longest, piece->bytes());
    last = piece->bytes();
    EXPECT_TRUE(piece->end % RangePlan::kShortest == 0 || piece->end == 100 || piece->end == kTotal) << "what is written at once is cut";
  }
  EXPECT_EQ(claimed.bytes(), kTotal);
  EXPECT_EQ(longest, RangePlan::kLongest);
  EXPECT_LE(last, 2 * RangePlan::kShortest);
  EXPECT_EQ(RangePlan(kTotal, {}, 4).claim(RangePlan::kUsual), (Range{0, RangePlan::kUsual}));
  plan.give_back({5'000, 6'000});
  EXPECT_EQ(plan.claim(), (Range{5'000, 6'000}));
  EXPECT_EQ(plan.claim(), std::nullopt);
}

TEST(Journal, IsReadBackAndRefusedWhenDamaged) {
  const Journal journal{"https://h/\"m\".gguf", 1'000, "\"a b\"", {{0, 10}, {20, 1'000}}};
  const auto read = parse_journal(to_json(journal));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(*read, journal);
  for (const char* text :
       {"", "{}", "[1]", R"({"journal":2,"source":"s","total_bytes":9,"etag":"","ranges":[]})",
        R"({"journal":1,"source":"s","total_bytes":9,"etag":"","ranges":[[0,10]]})",
        R"({"journal":1,"source":"s","total_bytes":9,"etag":"","ranges":[[5,5]]})",
        R"({"journal":1,"source":"s","total_bytes":9,"etag":"","ranges":[[4,6],[2,3]]})",
        R"({"journal":1,"source":"s","total_bytes":9,"etag":"","ranges":[[-1,6]]})",
        R"({"journal":1,"source":"s","total_bytes":-9,"etag":"","ranges":[]})", R"({"journal":1,"source":7,"total_bytes":9,"etag":"","ranges":[]})",
        R"({"journal":1,"source":"s","total_bytes":9,"etag":"","ranges":[[0]]})"})
    EXPECT_FALSE(parse_journal(text).ok()) << text;
}

TEST(SetEntry, IsReadBackAndRefusedWhenDamaged) {
  const PulledSet set{"hf:o/r", "abc", "m.gguf", {{"m.gguf", 5, std::string(64, 'a')}}, 17};
  const auto read = parse_set(to_json(set));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->files, set.files);
  EXPECT_EQ(read->source, set.source);
  EXPECT_EQ(read->key(), set.key());
  for (const std::string& text : {std::string("{}"), std::string("no"), to_json({"s", "", "", {}, 0}),
                                  to_json({"s", "", "", {{"../m", 5, std::string(64, 'a')}}, 0}), to_json({"s", "", "", {{"m", 5, "a"}}, 0})})
    EXPECT_FALSE(parse_set(text).ok()) << text;
}

TEST(HttpRules, ReadsHeaders) {
  const auto range = parse_content_range("bytes 5-9/100");
  ASSERT_TRUE(range);
  EXPECT_EQ(range->range, (Range{5, 10}));
  EXPECT_EQ(range->total_bytes, 100U);
  for (const char* wrong : {"", "bytes */100", "bytes 5-4/100", "bytes 5-100/100", "bytes 5-9/*", "items 5-9/100", "bytes -9/100", "bytes 5-9",
                            "bytes 5/9-100", "bytes 5-9/100x"})
    EXPECT_FALSE(parse_content_range(wrong)) << wrong;
  EXPECT_EQ(parse_retry_after("120"), base::Duration(base::Seconds(120)));
  EXPECT_EQ(parse_retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), std::nullopt);
  EXPECT_EQ(parse_retry_after("-1"), std::nullopt);
  EXPECT_EQ(strong_etag("\"x\""), "\"x\"");
  EXPECT_EQ(strong_etag("W/\"x\""), "");
  EXPECT_EQ(strong_etag("x"), "");
  const Backoff backoff{base::Millis(500), base::Seconds(3), 8};
  EXPECT_EQ(wait_before(backoff, 1), base::Duration(base::Millis(500)));
  EXPECT_EQ(wait_before(backoff, 3), base::Duration(base::Seconds(2)));
  EXPECT_EQ(wait_before(backoff, 60), base::Duration(base::Seconds(3)));
}

TEST(HttpRules, SayWhoMayBeAsked) {
  const auto url = [](const char* text) { return *spec::parse_url(text); };
  SourceRules rules;
  EXPECT_TRUE(check_url(url("https://h/"), rules).ok());
  EXPECT_FALSE(check_url(url("http://h/"), rules).ok());
  EXPECT_FALSE(check_redirect(url("https://h/"), url("http://h/"), rules).ok());
  rules.allow_http = true;
  EXPECT_TRUE(check_url(url("http://h/"), rules).ok());
  EXPECT_TRUE(check_redirect(url("http://h/"), url("http://g/"), rules).ok());
  EXPECT_FALSE(check_redirect(url("https://h/"), url("http://h/"), rules).ok()) << "never down, also where http is allowed";
  EXPECT_FALSE(may_be_private(url("https://h/"), rules));
  rules.private_hosts = {"h"};
  EXPECT_TRUE(may_be_private(url("https://H./"), rules));
  EXPECT_FALSE(may_be_private(url("https://g/"), rules));
  rules = {};
  rules.http_hosts = {"hub"};
  EXPECT_TRUE(check_url(url("http://hub:8080/"), rules).ok());
  EXPECT_FALSE(check_redirect(url("http://hub/"), url("http://other/"), rules).ok());
}

}  // namespace
}  // namespace thaw::node::pull
