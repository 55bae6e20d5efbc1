#include "base/crc32c.h"

#include <string>

#include <gtest/gtest.h>

namespace thaw::base {
namespace {

// RFC 3720 B.4
TEST(Crc32c, IsAsInTheStandard) {
  EXPECT_EQ(crc32c("123456789", 9), 0xe3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0').data(), 32), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff').data(), 32), 0x62a8ab43U);
  EXPECT_EQ(crc32c("", 0), 0U);
}

}  // namespace
}  // namespace thaw::base
