#include "base/tenancy.h"

#include <gtest/gtest.h>

namespace thaw::base {
namespace {

TEST(Tenancy, AModelsNameSaysWhoseItIs) {
  EXPECT_EQ(qualified("acme", "stories").str(), "acme~stories");
  EXPECT_EQ(qualified(kDefaultTenant, "stories").str(), "stories");
  EXPECT_EQ(qualified("", "stories").str(), "stories");
  const ModelName acmes("acme~a.b_c");
  EXPECT_EQ(tenant_of(acmes).str(), "acme");
  EXPECT_EQ(public_name(acmes), "a.b_c");
  EXPECT_EQ(tenant_of(ModelName("stories")).str(), "default");
  EXPECT_EQ(public_name(ModelName("stories")), "stories");
  EXPECT_EQ(public_part(ModelName("")), "");
}

TEST(Tenancy, TenantsNamesAreFitForPathsAndLabels) {
  for (const char* name : {"a", "acme", "acme-2", "0", "a23456789012345678901234567890z"})
    EXPECT_TRUE(is_tenant_name(name)) << name;
  for (const char* name :
       {"", "-a", "a-", "A", "a.b", "a_b", "a~b", "a/b", "..", "a b", "\xc3\xa4", "a234567890123456789012345678901z"})
    EXPECT_FALSE(is_tenant_name(name)) << name;
}

}  // namespace
}  // namespace thaw::base
