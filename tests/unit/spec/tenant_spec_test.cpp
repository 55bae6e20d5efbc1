#include "spec/tenant_spec.h"

#include <gtest/gtest.h>

namespace thaw::spec {
namespace {

std::string with(const std::string& spec) {
  return "apiVersion: thaw/v1\nkind: Tenant\nmetadata: {name: acme}\nspec: " + spec;
}

std::string error(const std::string& spec) {
  const auto read = parse_tenant(with(spec), "t.yaml");
  return read.ok() ? "(no error)" : read.error().message;
}

TEST(TenantSpec, ReadsAllOfIt) {
  const auto read = parse_tenant(with("{weight: 2.5, sources: [/srv/a, /srv/b], quotas: {models: 0, devices: 2, "
                                      "deviceSecondsPerDay: 3600, requestsPerSecond: 0.5, "
                                      "tokensPerMinute: 100, concurrentRequests: 8, disk: 2GiB}}"),
                                 "t.yaml");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->name.str(), "acme");
  EXPECT_EQ(read->weight, 2.5);
  EXPECT_EQ(read->sources, (std::vector<std::string>{"/srv/a", "/srv/b"}));
  EXPECT_EQ(read->quotas.models, 0U);
  EXPECT_EQ(read->quotas.devices, 2);
  EXPECT_EQ(read->quotas.device_seconds_per_day, 3600U);
  EXPECT_EQ(read->quotas.requests_per_second, 0.5);
  EXPECT_EQ(read->quotas.tokens_per_minute, 100U);
  EXPECT_EQ(read->quotas.concurrent_requests, 8U);
  EXPECT_EQ(read->quotas.disk_bytes, 2ULL << 30);
  const auto again = parse_tenant(to_json(*read), "json");
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(*again, *read);
}

TEST(TenantSpec, SaysHowHighItsPriorityMayBe) {
  const auto read = parse_tenant(with("{maxPriority: high}"), "t.yaml");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->max_priority, Priority::high);
  const auto again = parse_tenant(to_json(*read), "json");
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(*again, *read);
  EXPECT_FALSE(parse_tenant(with("{}"), "t.yaml")->max_priority);
  EXPECT_TRUE(error("{maxPriority: urgent}").starts_with("t.yaml:4:21: spec.maxPriority: ")) << error("{maxPriority: urgent}");
}

TEST(TenantSpec, WithoutLimitsThereAreNone) {
  for (const char* spec : {"{}", "{quotas: {}}", "{quotas: {models: none, requestsPerSecond: none, disk: none}}"}) {
    const auto read = parse_tenant(with(spec), "t.yaml");
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->quotas, Quotas{}) << spec;
    EXPECT_EQ(read->weight, 1);
  }
  EXPECT_TRUE(parse_tenant("apiVersion: thaw/v1\nkind: Tenant\nmetadata: {name: acme}", "t.yaml").ok());
}

TEST(TenantSpec, SaysWhereWhatIsWrong) {
  EXPECT_EQ(error("{wieght: 2}"), "t.yaml:4:8: spec.wieght: unknown key; did you mean weight?");
  EXPECT_EQ(error("{weight: 0}"), "t.yaml:4:16: spec.weight: 0 is out of range; give 0.01 to 100");
  EXPECT_TRUE(error("{quotas: {models: -1}}").starts_with("t.yaml:4:25: spec.quotas.models: "))
      << error("{quotas: {models: -1}}");
  EXPECT_TRUE(error("{sources: [models]}").starts_with("t.yaml:4:18: spec.sources[0]: "))
      << error("{sources: [models]}");
  EXPECT_TRUE(error("{sources: /srv}").ends_with("must be a list of directories, such as [/srv/models/acme]"));
  const auto named = parse_tenant("apiVersion: thaw/v1\nkind: Tenant\nmetadata: {name: a~b}", "t.yaml");
  ASSERT_FALSE(named.ok());
  EXPECT_EQ(named.error().message,
            "t.yaml:3:18: metadata.name: \"a~b\" is no tenant's name; use 1 to 31 of a-z, 0-9 and \"-\", a letter or "
            "digit first and last");
  EXPECT_FALSE(parse_tenant("apiVersion: thaw/v1\nkind: Model\nmetadata: {name: acme}", "t.yaml").ok());
}

TEST(TenantSpec, TheDefaultTenantIsNotConfined) {
  EXPECT_FALSE(
      parse_tenant("apiVersion: thaw/v1\nkind: Tenant\nmetadata: {name: default}\nspec: {sources: [/srv]}", "t.yaml")
          .ok());
  EXPECT_TRUE(parse_tenant("apiVersion: thaw/v1\nkind: Tenant\nmetadata: {name: default}\nspec: {quotas: {models: 3}}",
                           "t.yaml")
                  .ok());
}

}  // namespace
}  // namespace thaw::spec
