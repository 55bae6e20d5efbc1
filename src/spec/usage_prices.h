#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace thaw::spec {

struct Cursor;

/// What using something costs, in the operator's currency.
struct UsagePrice {
  double device_second = 0;         ///< of service, and of starts that a request caused
  double prompt_tokens_1k = 0;      ///< per 1000
  double completion_tokens_1k = 0;  ///< per 1000
  bool operator==(const UsagePrice&) const = default;
};

struct UsagePrices {
  std::string currency;  ///< of three letters, "EUR"; empty: costs are not told
  UsagePrice standard;
  std::map<std::string, UsagePrice> models;  ///< by name; what it leaves out is as in `standard`

  /// `device_us`: microseconds of device time.
  [[nodiscard]] double cost(const std::string& model, std::uint64_t device_us, std::uint64_t prompt_tokens, std::uint64_t completion_tokens) const;
};

/// usage.prices of a server's configuration.
void read_prices(const Cursor& at, UsagePrices& into);

}  // namespace thaw::spec
