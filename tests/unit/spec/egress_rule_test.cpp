#include "spec/egress_rule.h"

#include <gtest/gtest.h>

namespace thaw::spec {
namespace {

EgressRule rule(const std::string& text) {
  auto parsed = parse_egress_rule(text);
  EXPECT_TRUE(parsed.ok()) << text << ": " << (parsed.ok() ? "" : parsed.error().message);
  return parsed.ok() ? *parsed : EgressRule{};
}

bool at(const std::string& text, const std::string& address) {
  return holds(rule(text), *parse_address(address));
}

TEST(EgressRule, HostsByName) {
  EXPECT_TRUE(names(rule("HuggingFace.co.:443"), "huggingface.co"));
  EXPECT_FALSE(names(rule("huggingface.co:443"), "x.huggingface.co"));
  EXPECT_FALSE(names(rule("huggingface.co:443"), "evilhuggingface.co"));
  EXPECT_TRUE(names(rule("*.hf.co:443"), "cdn.lfs.hf.co"));
  EXPECT_FALSE(names(rule("*.hf.co:443"), "hf.co"));
  EXPECT_FALSE(names(rule("*.hf.co:443"), "evilhf.co"));
  EXPECT_EQ(rule("a.b:8443").port, 8443);
  EXPECT_FALSE(names(rule("10.0.0.1:443"), "10.0.0.1"));
}

TEST(EgressRule, Addresses) {
  EXPECT_TRUE(at("10.1.2.0/24:9000", "10.1.2.255"));
  EXPECT_FALSE(at("10.1.2.0/24:9000", "10.1.3.0"));
  EXPECT_TRUE(at("192.0.2.7:443", "192.0.2.7"));
  EXPECT_FALSE(at("192.0.2.7:443", "192.0.2.8"));
  EXPECT_TRUE(at("[2001:db8::/32]:443", "2001:db8:1::1"));
  EXPECT_FALSE(at("[2001:db8::/32]:443", "2001:db9::1"));
  EXPECT_TRUE(at("10.0.0.0/8:1", "::ffff:10.1.1.1")) << "the same address, written as IPv6";
  EXPECT_FALSE(at("host.example:443", "10.0.0.1"));
}

TEST(EgressRule, WhatIsNoneIsRefused) {
  for (const std::string text : {"",           "host",          "host:",       "host:0",          "host:65536",
                                 "host:4x",    ":443",          "*:443",       "*.com:443",       "a..b:443",
                                 "-a.b:443",   "10.0.0.0/33:1", "10.0.0.0/:1", "2001:db8::1:443", "[2001:db8::/129]:1",
                                 "[host]:443", "127.1:80",      "0x7f.1:80",   "1.2.3:80",        "a b:80",
                                 "a*.b:443",   "http://a:443",  "a/b:443"})
    EXPECT_FALSE(parse_egress_rule(text).ok()) << text;
}

}  // namespace
}  // namespace thaw::spec
