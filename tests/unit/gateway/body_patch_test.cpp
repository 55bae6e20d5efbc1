#include "gateway/body_patch.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "gateway/body_scan.h"

namespace thaw::gateway {
namespace {

TEST(BodyPatch, SetsTheModel) {
  EXPECT_EQ(patch_body(R"({"model":"alias","messages":[{"role":"user","content":"model"}]})", {{"model", "\"m\"", true}}),
            R"({"messages":[{"role":"user","content":"model"}],"model":"m"})");
}

TEST(BodyPatch, ADefaultIsTakenWhereNothingOrNullWasSent) {
  const std::vector<BodySetting> settings{{"temperature", "0.5", false}, {"stop", "[\"\\n\"]", false}};
  EXPECT_EQ(patch_body(R"({"model":"m"})", settings), R"({"model":"m","temperature":0.5,"stop":["\n"]})");
  EXPECT_EQ(patch_body(R"({"temperature":null,"model":"m","stop":"x"})", settings), R"({"model":"m","stop":"x","temperature":0.5})");
  EXPECT_EQ(patch_body(R"({ "temperature" : 0 , "stop" : [ ] })", settings), R"({"temperature":0,"stop":[ ]})");
}

TEST(BodyPatch, AnOverrideStandsOnceWhateverWasSent) {
  const std::vector<BodySetting> settings{{"max_tokens", "5", true}};
  EXPECT_EQ(patch_body(R"({"max_tokens":1,"a":{"max_tokens":7},"max_tokens":2})", settings), R"({"a":{"max_tokens":7},"max_tokens":5})");
  EXPECT_EQ(patch_body(R"({"max\u005ftokens":1})", settings), R"({"max_tokens":5})") << "an escape in a key hides nothing";
}

TEST(BodyPatch, EverythingElseStaysAsItWas) {
  const std::string body = " {\t\"a\" : \"x\\\"},]{\" ,\n\"b\":[1,{\"c\":\"]\"},[]], \"d\":-1.5e+3,\"e\":{\"f\":{}},\"\\u00e9\":true,\"g\":null } ";
  const std::string patched = patch_body(body, {{"z", "1", true}});
  boost::json::object expected = boost::json::parse(body).get_object();
  expected["z"] = 1;
  EXPECT_EQ(boost::json::parse(patched), boost::json::value(expected));
  EXPECT_NE(patched.find("-1.5e+3"), std::string::npos) << "numbers are not written anew";
  EXPECT_EQ(patch_body("{}", {{"a", "1", false}, {"b", "2", true}}), R"({"a":1,"b":2})");
  EXPECT_EQ(patch_body(" { } ", {}), "{}");
}

}  // namespace
}  // namespace thaw::gateway
