#include "gateway/certificates.h"

#include <gtest/gtest.h>

namespace thaw::gateway {
namespace {

using Client = spec::ServerConfig::Tls::Client;

class ClientCertificatesTest : public testing::Test {
 protected:
  std::string identify(const std::string& subject, const std::string& headers = "") {
    const std::string text = "GET / HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n";
    net::Head head;
    net::HeadError error;
    EXPECT_EQ(net::parse_request(text, head, error), net::Parse::done) << error.message;
    caller_ = {};
    const auto refused = certificates_.identify(subject, head, tenants_, caller_);
    if (!refused) return caller_->tenant.str();
    EXPECT_EQ(refused->status, 401);
    EXPECT_EQ(caller_, nullptr);
    return refused->code;
  }

  Tenants tenants_;
  ClientCertificates certificates_{{Client{"CN=ops,O=Example", spec::Role::admin, base::TenantName("default"), true},
                                    Client{"CN=app", spec::Role::inference, base::TenantName("acme"), false}}};
  std::shared_ptr<const Caller> caller_;
};

TEST_F(ClientCertificatesTest, StandForWhomTheConfigurationSays) {
  EXPECT_TRUE(certificates_.knows("CN=ops,O=Example"));
  EXPECT_FALSE(certificates_.knows("CN=ops"));
  EXPECT_FALSE(certificates_.knows("cn=ops,o=example"));
  EXPECT_EQ(identify("CN=ops,O=Example"), "default");
  EXPECT_EQ(caller_->role, spec::Role::admin);
  EXPECT_TRUE(caller_->platform && caller_->certificate && !caller_->key);
  EXPECT_EQ(caller_->subject, "CN=ops,O=Example");
  const auto first = caller_;
  EXPECT_EQ(identify("CN=ops,O=Example"), "default");
  EXPECT_EQ(caller_, first) << "made once";
  EXPECT_EQ(identify("CN=somebody"), "missing_api_key");
}

TEST_F(ClientCertificatesTest, ATenantMustBeThereAndIsTheOneOfNow) {
  EXPECT_EQ(identify("CN=app"), "invalid_certificate");
  spec::TenantSpec acme;
  acme.name = base::TenantName("acme");
  tenants_.put(acme, 1, 1, base::TimePoint{});
  EXPECT_EQ(identify("CN=app"), "acme");
  EXPECT_FALSE(caller_->platform);
  const auto account = caller_->account;
  tenants_.erase(acme.name);
  EXPECT_EQ(identify("CN=app"), "invalid_certificate");
  tenants_.put(acme, 2, 2, base::TimePoint{});
  EXPECT_EQ(identify("CN=app"), "acme");
  EXPECT_NE(caller_->account, account) << "another tenant of that name";
}

TEST_F(ClientCertificatesTest, DoNotStandForTheRequestsOfPages) {
  EXPECT_EQ(identify("CN=ops,O=Example", "Origin: https://evil.example\r\n"), "missing_api_key");
  EXPECT_EQ(identify("CN=ops,O=Example", "Origin: null\r\n"), "missing_api_key");
  EXPECT_EQ(identify("CN=ops,O=Example", "Sec-Fetch-Site: cross-site\r\n"), "missing_api_key");
  EXPECT_EQ(identify("CN=ops,O=Example", "Sec-Fetch-Site: none\r\n"), "default");
}

}  // namespace
}  // namespace thaw::gateway
