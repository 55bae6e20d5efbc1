#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

/// What every request used: who asked which model, what it cost in tokens and device time, and how it ended.
namespace thaw::store {

/// How a request ended.
enum class UsageOutcome : std::uint8_t {
  ok,           ///< answered to its end
  failed,       ///< sent to a replica, and answered with an error or broken off
  refused,      ///< turned away before a replica had it: queue full, no room, start failed
  cancelled,    ///< the client left
  interrupted,  ///< this server died while the request was open; what it used until then is not known
};
inline constexpr std::uint8_t kUsageOutcomes = 5;

/// How it found its model.
enum class UsageWay : std::uint8_t { warm, woken, restored, cold };
inline constexpr std::uint8_t kUsageWays = 4;

const char* to_string(UsageOutcome outcome);
const char* to_string(UsageWay way);

/// One request, ended. A request's number is unique for the life of a data directory: usage_seq().
struct UsageRow {
  std::uint64_t seq = 0;
  std::int64_t arrived_unix_ms = 0;
  std::int64_t ended_unix_ms = 0;  ///< interrupted: when the next start found it
  bool dispatched = false;         ///< a replica got it
  base::KeyId key;
  std::string tenant, model;
  UsageOutcome outcome = UsageOutcome::ok;
  UsageWay way = UsageWay::warm;
  std::uint16_t status = 0;  ///< HTTP status sent; 499: the client left; 0: interrupted
  std::uint32_t prompt_tokens = 0, completion_tokens = 0;
  std::uint64_t wait_us = 0;     ///< for a replica
  std::uint64_t service_us = 0;  ///< device time: its share of its replicas' busy time (the shares of a replica's requests add up to that)
  std::uint64_t start_us = 0;    ///< device time: the start, restore or wake that it caused; 0 when another request caused it
  bool operator==(const UsageRow&) const = default;
};

/// `start`: the number of this server's start (UsageDatabase::begin_start); `number`: of the request since then.
constexpr std::uint64_t usage_seq(std::uint64_t start, std::uint64_t number) {
  constexpr unsigned kNumberBits = 40;
  return start << kNumberBits | (number & ((1ULL << kNumberBits) - 1));
}

/// Where ended rows go. Blocking; one thread at a time.
class UsageSink {
 public:
  virtual ~UsageSink() = default;
  /// All of them, durable on return, or none. A row whose seq is there already is left out: after a crash nobody knows whether a group arrived.
  virtual base::Status append(std::span<const UsageRow> rows) = 0;
  /// Called now and then: removes what is older than it need be.
  virtual base::Status tidy(std::int64_t now_unix_ms) = 0;
};

/// Sums over requests.
struct UsageTotals {
  std::uint64_t requests = 0, ok = 0, failed = 0, refused = 0, cancelled = 0, interrupted = 0;
  std::uint64_t cold = 0, restored = 0, woken = 0;
  std::uint64_t prompt_tokens = 0, completion_tokens = 0;
  std::uint64_t wait_us = 0, service_us = 0, start_us = 0;
  void add(const UsageRow& row);
  void add(const UsageTotals& other);
};

enum class UsageBy { model, tenant, day, key };
std::optional<UsageBy> parse_usage_by(std::string_view text);
const char* to_string(UsageBy by);

/// Days are whole UTC days, counted from 1970-01-01.
struct UsageFilter {
  std::int64_t first_day = 0;
  std::int64_t last_day = 1LL << 40;  ///< inclusive
  std::string tenant = {};            ///< only this one's; empty: all
};

constexpr std::int64_t kDay_ms = 86'400'000;
/// "2026-11-25" -> day; ErrorKind::invalid says how it is written.
base::Result<std::int64_t> parse_day(std::string_view text);
std::string format_day(std::int64_t day);

/// One group's sums with one model (prices may differ by model).
struct UsageSum {
  std::string group;  ///< by: a model's name, a tenant's, "2026-11-25", "key:3" ("dev": without a key)
  std::string model;
  UsageTotals totals;
};

}  // namespace thaw::store
