#include "gateway/tenant_account.h"

#include <gtest/gtest.h>

namespace thaw::gateway {
namespace {

class TenantAccountTest : public testing::Test {
 protected:
  /// The refusal's code; "" if the request is let in.
  std::string begin() {
    const auto refused = account_.begin(now_);
    if (refused) {
      EXPECT_EQ(refused->status, 429);
    }
    last_ = refused.value_or(ApiError{});
    return refused ? refused->code : "";
  }
  std::string headers() {
    std::string out;
    account_.append_headers(out, now_);
    return out;
  }
  /// `fill(quotas)` declares what is limited; the rest is not.
  template <class Fill>
  void limit(Fill fill) {
    spec::Quotas quotas;
    fill(quotas);
    account_.set(quotas, now_);
  }
  void pass(base::Duration time) { now_ += time; }

  TenantAccount account_{base::TenantName("acme")};
  base::TimePoint now_{base::Seconds(1000)};
  ApiError last_;
};

TEST_F(TenantAccountTest, WithoutQuotasNothingIsRefusedAndNothingIsSaid) {
  for (int i = 0; i < 10'000; ++i) EXPECT_EQ(begin(), "");
  account_.charge_tokens(1'000'000'000, now_);
  EXPECT_EQ(begin(), "");
  EXPECT_EQ(headers(), "");
  EXPECT_EQ(account_.running(), 10'001U);
  EXPECT_FALSE(account_.requests_left(now_));
}

TEST_F(TenantAccountTest, OneSecondsRequestsMayComeAtOnceAndNoMore) {
  limit([](spec::Quotas& q) { q.requests_per_second = 10; });
  for (int i = 0; i < 10; ++i) EXPECT_EQ(begin(), "");
  EXPECT_EQ(begin(), "rate_limit_exceeded");
  EXPECT_EQ(last_.retry_after, base::Millis(100));
  EXPECT_EQ(last_.type, "rate_limit_error");
  pass(base::Millis(100));
  EXPECT_EQ(begin(), "");
  EXPECT_EQ(begin(), "rate_limit_exceeded");
  pass(base::Seconds(3600));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(begin(), "");
  EXPECT_EQ(begin(), "rate_limit_exceeded") << "what was not used is not saved up";
  EXPECT_EQ(account_.refused(), 3U);
}

TEST_F(TenantAccountTest, LessThanOneRequestASecondIsOneNowAndThen) {
  limit([](spec::Quotas& q) { q.requests_per_second = 0.1; });
  EXPECT_EQ(begin(), "");
  EXPECT_EQ(begin(), "rate_limit_exceeded");
  EXPECT_EQ(last_.retry_after, base::Seconds(10));
  pass(base::Seconds(10));
  EXPECT_EQ(begin(), "");
}

TEST_F(TenantAccountTest, TokensAreChargedWhenTheyAreKnown) {
  limit([](spec::Quotas& q) { q.tokens_per_minute = 600; });
  EXPECT_EQ(begin(), "");
  account_.charge_tokens(599, now_);
  EXPECT_EQ(begin(), "") << "one is left: nobody knows beforehand what an answer takes";
  account_.charge_tokens(601, now_);
  EXPECT_EQ(begin(), "rate_limit_exceeded");
  EXPECT_EQ(last_.retry_after, base::Millis(60'100)) << "600 below nothing, ten come a second";
  pass(base::Millis(60'050));
  EXPECT_EQ(begin(), "") << "something is there again";
}

TEST_F(TenantAccountTest, WaitsAreBounded) {
  limit([](spec::Quotas& q) { q.tokens_per_minute = 1; });
  account_.charge_tokens(~std::uint64_t{0}, now_);
  EXPECT_EQ(begin(), "rate_limit_exceeded");
  EXPECT_EQ(last_.retry_after, base::Seconds(86'400));
  EXPECT_NE(headers().find("x-ratelimit-remaining-tokens: 0\r\n"), std::string::npos);
}

TEST_F(TenantAccountTest, RequestsUnderWayAreCounted) {
  limit([](spec::Quotas& q) { q.concurrent_requests = 2; });
  EXPECT_EQ(begin(), "");
  EXPECT_EQ(begin(), "");
  EXPECT_EQ(begin(), "concurrency_limit_exceeded");
  account_.end();
  EXPECT_EQ(begin(), "");
  EXPECT_EQ(account_.running(), 2U);
}

TEST_F(TenantAccountTest, ARefusedRequestTakesNothing) {
  limit([](spec::Quotas& q) {
    q.requests_per_second = 2;
    q.concurrent_requests = 1;
  });
  EXPECT_EQ(begin(), "");
  EXPECT_EQ(begin(), "concurrency_limit_exceeded");
  account_.end();
  EXPECT_EQ(begin(), "") << "the refused one did not use the second's other request up";
}

TEST_F(TenantAccountTest, SaysWhatIsLeftAsOpenAiDoes) {
  limit([](spec::Quotas& q) {
    q.requests_per_second = 10;
    q.tokens_per_minute = 6000;
  });
  EXPECT_EQ(begin(), "");
  account_.charge_tokens(100, now_);
  EXPECT_EQ(
      headers(),
      "x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 9\r\nx-ratelimit-reset-requests: 100ms\r\n"
      "x-ratelimit-limit-tokens: 6000\r\nx-ratelimit-remaining-tokens: 5900\r\nx-ratelimit-reset-tokens: 1s\r\n");
  EXPECT_EQ(account_.requests_left(now_), 9U);
  EXPECT_EQ(account_.tokens_left(now_), 5900U);
}

TEST_F(TenantAccountTest, OtherQuotasTakeEffectAtOnceAndForgiveNothing) {
  limit([](spec::Quotas& q) { q.requests_per_second = 10; });
  for (int i = 0; i < 10; ++i) EXPECT_EQ(begin(), "");
  limit([](spec::Quotas& q) { q.requests_per_second = 100; });
  EXPECT_EQ(begin(), "rate_limit_exceeded");
  pass(base::Millis(10));
  EXPECT_EQ(begin(), "");
  limit([](spec::Quotas&) {});
  EXPECT_EQ(begin(), "");
  limit([](spec::Quotas& q) { q.concurrent_requests = 5; });
  EXPECT_EQ(begin(), "concurrency_limit_exceeded") << "those under way count";
}

TEST(FormatReset, IsOpenAis) {
  EXPECT_EQ(format_reset({}), "0ms");
  EXPECT_EQ(format_reset(base::Duration(1)), "1ms");
  EXPECT_EQ(format_reset(base::Millis(12)), "12ms");
  EXPECT_EQ(format_reset(base::Millis(1001)), "2s");
  EXPECT_EQ(format_reset(base::Seconds(90)), "1m30s");
  EXPECT_EQ(format_reset(base::Seconds(3661)), "1h1m1s");
}

}  // namespace
}  // namespace thaw::gateway
