#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/ids.h"
#include "base/time.h"
#include "gateway/api_error.h"
#include "spec/tenant_spec.h"

namespace thaw::gateway {

/// An amount that fills up at a steady rate to a bound, and is taken from. May fall below nothing by what is charged
/// afterwards.
class TokenBucket {
 public:
  /// Full when it was none before; else it keeps what is in it, up to the new bound.
  void set(double capacity, double per_second, base::TimePoint now);
  void unset() { capacity_ = 0; }
  [[nodiscard]] bool limited() const { return capacity_ > 0; }

  void refill(base::TimePoint now);
  void take(double amount) { level_ -= amount; }
  [[nodiscard]] double capacity() const { return capacity_; }
  [[nodiscard]] double level() const { return level_; }  ///< as of the last refill
  /// How long until `level` is in it; 0 when it is.
  [[nodiscard]] base::Duration until(double level) const;

 private:
  double capacity_ = 0;
  double per_second_ = 0;
  double level_ = 0;
  base::TimePoint at_{};
};

/// What a tenant uses of the gateway, against its quotas: each request costs a few comparisons here, whatever the
/// number of tenants. Loop thread only; shared with the requests under way, so that one that outlives its tenant still
/// has a place to be counted off.
class TenantAccount {
 public:
  explicit TenantAccount(base::TenantName tenant) : tenant_(std::move(tenant)) {}

  void set(const spec::Quotas& quotas, base::TimePoint now);

  /// A request comes: counted, or the 429 that it gets. What is counted ends with end().
  [[nodiscard]] std::optional<ApiError> begin(base::TimePoint now);
  void end() { --running_; }
  /// What the engine says that the answer took.
  void charge_tokens(std::uint64_t tokens, base::TimePoint now);

  /// OpenAI's x-ratelimit-{limit,remaining,reset}-{requests,tokens}, for those that have a limit. `reset`: until all of
  /// it is there again.
  void append_headers(std::string& out, base::TimePoint now);

  [[nodiscard]] std::uint32_t running() const { return running_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }
  /// Of the bucket, rounded down, at least 0; nothing without a limit.
  [[nodiscard]] std::optional<std::uint64_t> requests_left(base::TimePoint now);
  [[nodiscard]] std::optional<std::uint64_t> tokens_left(base::TimePoint now);

 private:
  base::TenantName tenant_;
  TokenBucket requests_;
  TokenBucket tokens_;
  std::uint32_t max_running_ = 0;  ///< 0: no limit
  std::uint32_t running_ = 0;
  std::uint64_t refused_ = 0;
};

/// As OpenAI writes it: "12ms", "6s", "1m30s".
std::string format_reset(base::Duration duration);

}  // namespace thaw::gateway
