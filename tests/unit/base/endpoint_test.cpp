#include "base/endpoint.h"

#include <gtest/gtest.h>

namespace thaw::base {
namespace {

TEST(Endpoint, AUnixSocketIsItsPath) {
  const auto endpoint = parse_endpoint("/run/thaw/x/engine.sock");
  ASSERT_TRUE(endpoint.ok());
  EXPECT_EQ(endpoint->unix_path, "/run/thaw/x/engine.sock");
  EXPECT_EQ(to_string(*endpoint), "/run/thaw/x/engine.sock");
}

TEST(Endpoint, ATcpAddressNamesItsNamespace) {
  const auto endpoint = parse_endpoint("tcp:169.254.77.2:8080@/run/thaw/x/door");
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().message;
  EXPECT_EQ(*endpoint, (Endpoint{"", "169.254.77.2", 8080, "/run/thaw/x/door"}));
  EXPECT_EQ(to_string(*endpoint), "tcp:169.254.77.2:8080@/run/thaw/x/door");
}

TEST(Endpoint, AnythingElseIsRefusedAndQuoted) {
  for (const char* text :
       {"", "engine.sock", "tcp:", "tcp:1.2.3.4:80", "tcp:1.2.3.4@/n", "tcp:1.2.3:80@/n", "tcp:1.2.3.4.5:80@/n",
        "tcp:1.2.3.256:80@/n", "tcp:1.2.3.:80@/n", "tcp:1.2.3.4:0@/n", "tcp:1.2.3.4:65536@/n", "tcp:1.2.3.4:8 @/n",
        "tcp:1.2.3.4:80@n", "tcp:1.2.3.4:80@", "tcp:host:80@/n", "udp:1.2.3.4:80@/n"}) {
    const auto endpoint = parse_endpoint(text);
    ASSERT_FALSE(endpoint.ok()) << text;
    EXPECT_EQ(endpoint.error().kind, ErrorKind::invalid);
    EXPECT_NE(endpoint.error().message.find(std::string("\"") + text + "\""), std::string::npos)
        << endpoint.error().message;
  }
}

}  // namespace
}  // namespace thaw::base
