#include "gateway/tenant_account.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace thaw::gateway {
namespace {

constexpr double kSecondsPerMinute = 60;

constexpr double kMaxWait_s = 86'400;  // what is longer is said as a day

base::Duration seconds(double s) {
  return base::duration_cast<base::Duration>(std::chrono::duration<double>(std::min(s, kMaxWait_s)));
}

std::uint64_t whole(double level) {
  return level > 0 ? static_cast<std::uint64_t>(level) : 0;
}

ApiError too_many(const char* code, std::string message, base::Duration retry_after) {
  return {
      429, "rate_limit_error", code, std::move(message), {}, std::max<base::Duration>(retry_after, base::Millis(1))};
}

void append_limit(std::string& out, const char* what, const TokenBucket& bucket) {
  out +=
      fmt::format("x-ratelimit-limit-{0}: {1}\r\nx-ratelimit-remaining-{0}: {2}\r\nx-ratelimit-reset-{0}: {3}\r\n",
                  what, whole(bucket.capacity()), whole(bucket.level()), format_reset(bucket.until(bucket.capacity())));
}

}  // namespace

void TokenBucket::set(double capacity, double per_second, base::TimePoint now) {
  const bool had = limited();
  if (had) refill(now);
  level_ = had ? std::min(level_, capacity) : capacity;
  capacity_ = capacity;
  per_second_ = per_second;
  at_ = now;
}

void TokenBucket::refill(base::TimePoint now) {
  if (now <= at_) return;
  level_ = std::min(capacity_, level_ + per_second_ * base::to_s(now - at_));
  at_ = now;
}

base::Duration TokenBucket::until(double level) const {
  return level <= level_ ? base::Duration::zero() : seconds((level - level_) / per_second_);
}

void TenantAccount::set(const spec::Quotas& quotas, base::TimePoint now) {
  // One second's worth may come at once; of less than one a second, one.
  if (const auto rate = quotas.requests_per_second)
    requests_.set(std::max(1.0, std::floor(*rate)), *rate, now);
  else
    requests_.unset();
  if (const auto tokens = quotas.tokens_per_minute)
    tokens_.set(static_cast<double>(*tokens), static_cast<double>(*tokens) / kSecondsPerMinute, now);
  else
    tokens_.unset();
  max_running_ = quotas.concurrent_requests.value_or(0);
}

std::optional<ApiError> TenantAccount::begin(base::TimePoint now) {
  if (max_running_ != 0 && running_ >= max_running_) {
    ++refused_;
    return too_many(
        "concurrency_limit_exceeded",
        fmt::format("tenant {} has {} requests waiting and running, which is its quota (concurrentRequests)",
                    tenant_.str(), running_),
        base::Seconds(1));
  }
  if (tokens_.limited()) {
    tokens_.refill(now);
    if (tokens_.level() <= 0) {
      ++refused_;
      return too_many("rate_limit_exceeded",
                      fmt::format("tenant {} has used up its {} tokens a minute (tokensPerMinute)", tenant_.str(),
                                  whole(tokens_.capacity())),
                      tokens_.until(1));
    }
  }
  if (requests_.limited()) {
    requests_.refill(now);
    if (requests_.level() < 1) {
      ++refused_;
      return too_many(
          "rate_limit_exceeded",
          fmt::format("tenant {} has made as many requests as it may in a second (requestsPerSecond)", tenant_.str()),
          requests_.until(1));
    }
    requests_.take(1);
  }
  ++running_;
  return std::nullopt;
}

void TenantAccount::charge_tokens(std::uint64_t tokens, base::TimePoint now) {
  if (!tokens_.limited()) return;
  tokens_.refill(now);
  tokens_.take(static_cast<double>(tokens));
}

void TenantAccount::append_headers(std::string& out, base::TimePoint now) {
  if (requests_.limited()) {
    requests_.refill(now);
    append_limit(out, "requests", requests_);
  }
  if (tokens_.limited()) {
    tokens_.refill(now);
    append_limit(out, "tokens", tokens_);
  }
}

std::optional<std::uint64_t> TenantAccount::requests_left(base::TimePoint now) {
  if (!requests_.limited()) return std::nullopt;
  requests_.refill(now);
  return whole(requests_.level());
}

std::optional<std::uint64_t> TenantAccount::tokens_left(base::TimePoint now) {
  if (!tokens_.limited()) return std::nullopt;
  tokens_.refill(now);
  return whole(tokens_.level());
}

std::string format_reset(base::Duration duration) {
  const auto ms = (duration + base::Millis(1) - base::Duration(1)) / base::Millis(1);
  if (ms < 1000) return fmt::format("{}ms", ms);
  const auto total_s = (ms + 999) / 1000;
  if (total_s < 60) return fmt::format("{}s", total_s);
  if (total_s < 3600) return fmt::format("{}m{}s", total_s / 60, total_s % 60);
  return fmt::format("{}h{}m{}s", total_s / 3600, total_s / 60 % 60, total_s % 60);
}

}  // namespace thaw::gateway
