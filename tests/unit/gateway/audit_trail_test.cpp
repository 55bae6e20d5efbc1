#include "gateway/audit_trail.h"

#include <gtest/gtest.h>

namespace thaw::gateway {
namespace {

TEST(AuditTrail, RefusalsAreBadKeysAnywhereAndWrongPathsOfTheAdminApi) {
  EXPECT_TRUE(is_refusal(401, "/v1/chat/completions"));
  EXPECT_TRUE(is_refusal(403, "/metrics"));
  EXPECT_TRUE(is_refusal(404, "/admin/v1/nothing"));
  EXPECT_TRUE(is_refusal(405, "/admin/v1/models"));
  EXPECT_FALSE(is_refusal(404, "/v1/models/none")) << "a client's wrong model is no attack on the administration";
  EXPECT_FALSE(is_refusal(503, "/admin/v1/models"));
  EXPECT_FALSE(is_refusal(429, "/v1/chat/completions"));
}

}  // namespace
}  // namespace thaw::gateway
