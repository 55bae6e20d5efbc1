#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "spec/model_spec.h"

/// Requests as somebody recorded them, or as a generator made them up.
namespace thaw::sim {

using ModelIndex = std::uint32_t;    ///< into Trace::models
using TenantIndex = std::uint16_t;   ///< into Trace::tenants
using RequestIndex = std::uint32_t;  ///< into Trace::requests

struct TraceRequest {
  base::Duration at{};  ///< since the first request
  ModelIndex model = 0;
  std::uint32_t input_tokens = 0;
  std::uint32_t output_tokens = 0;
  base::Duration duration{};  ///< how long it occupies a device that it has for itself, where Trace::durations; else 0
  TenantIndex tenant = 0;
  std::optional<spec::Priority> priority{};  ///< absent: its model's
};

struct Trace {
  std::string name;                    ///< for people
  std::vector<std::string> models;     ///< distinct
  std::vector<std::string> tenants{};  ///< distinct; empty: the trace names none
  std::vector<TraceRequest> requests;  ///< by time
  bool durations = false;              ///< requests have durations instead of tokens; judged by when they begin
  std::uint64_t skipped = 0;           ///< rows without a model or a duration: they never ran

  [[nodiscard]] base::Duration span() const { return requests.empty() ? base::Duration{} : requests.back().at; }
};

/// Columns by their names in the first line; empty: found by the names that public traces use (known_columns()).
struct Columns {
  std::string time{}, model{}, input{}, output{}, duration{}, tenant{}, priority{};
};

constexpr std::size_t kMaxTraceRequests = 50'000'000;
constexpr std::size_t kMaxTraceModels = 1'000'000;
constexpr std::size_t kMaxTraceTenants = 10'000;

/// Reads CSV (RFC 4180, first line names the columns). Times: seconds, or "2023-11-16 18:17:03.97" with a space or a T,
/// a fraction of any length and Z or +hh:mm perhaps; relative to the earliest. Rows need not be in order. No model
/// column: one model, "model". Errors name FILE:LINE.
base::Result<Trace> read_trace(std::string_view csv, const std::string& file, const Columns& columns);

/// Nanoseconds since 1970-01-01 (a date) or since 0 (a number of seconds).
base::Result<base::Duration> parse_time(std::string_view text);

/// One service's requests over `models` models: each request draws its model from a Zipf law with that exponent.
Trace spread(Trace trace, std::uint32_t models, double exponent, std::uint64_t seed);

/// "100:zipf:7": over 100 models, seed 7; "100:zipf(1.1):7" with another exponent than 1. Without ":7": `default_seed`.
struct Spread {
  std::uint32_t models = 0;
  double exponent = 1.0;
  std::uint64_t seed = 0;
};
base::Result<Spread> parse_spread(std::string_view text, std::uint64_t default_seed);

}  // namespace thaw::sim
