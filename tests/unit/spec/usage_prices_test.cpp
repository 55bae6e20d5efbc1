#include "spec/usage_prices.h"

#include <gtest/gtest.h>

#include "spec/server_config.h"

namespace thaw::spec {
namespace {

base::Result<ServerConfig> parse(const std::string& usage) {
  return parse_server_config("apiVersion: thaw/v1\nkind: Server\nusage: " + usage + "\n", "s.yaml", {});
}

std::string error(const std::string& usage) {
  const auto result = parse(usage);
  return result.ok() ? "(no error)" : result.error().message;
}

TEST(UsagePrices, AModelsOwnReplaceTheStandardOnes) {
  const auto config = parse(
      "{record: false, retentionDays: 7, dailyRetentionDays: 70, journal: /run/j, prices: {currency: EUR, deviceSecond: 0.5, promptTokens1k: 2, "
      "completionTokens1k: 4, models: {big: {deviceSecond: 3}}}}");
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_FALSE(config->usage.record);
  EXPECT_EQ(config->usage.retention_days, 7U);
  EXPECT_EQ(config->usage.daily_retention_days, 70U);
  EXPECT_EQ(config->usage.journal_path, "/run/j");
  const UsagePrices& prices = config->usage.prices;
  EXPECT_EQ(prices.currency, "EUR");
  EXPECT_DOUBLE_EQ(prices.cost("small", 2'000'000, 500, 250), 1 + 1 + 1);
  EXPECT_DOUBLE_EQ(prices.cost("big", 2'000'000, 500, 250), 6 + 1 + 1);
  EXPECT_DOUBLE_EQ(UsagePrices{}.cost("small", 2'000'000, 500, 250), 0);
}

TEST(UsagePrices, RefusesWhatIsNone) {
  EXPECT_NE(error("{prices: {deviceSecond: 1}}").find("currency"), std::string::npos);
  EXPECT_NE(error("{prices: {currency: euro}}").find("three letters"), std::string::npos);
  EXPECT_NE(error("{prices: {currency: EUR, deviceSecond: -1}}").find("deviceSecond"), std::string::npos);
  EXPECT_NE(error("{prices: {currency: EUR, models: [a]}}").find("mapping"), std::string::npos);
  EXPECT_NE(error("{prices: {currency: EUR, models: {m: {price: 1}}}}").find("usage.prices.models.m"), std::string::npos) << error("{prices: {currency: EUR, models: {m: {price: 1}}}}");
  EXPECT_NE(error("{retentionDays: 0}").find("retentionDays"), std::string::npos);
}

}  // namespace
}  // namespace thaw::spec
