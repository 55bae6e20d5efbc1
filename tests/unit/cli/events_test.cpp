// thaw events and thaw explain.
#include "unit/cli/app_fixture.h"
#include "unit/cli/fake_server.h"

namespace thaw::cli {
namespace {

using Events = App;

constexpr const char* kEvents = R"({"model":"m","tenant":"default","last":9,"events":[
  {"seq":7,"unix_ms":1795490286784,"event":"starting","replica":17,"node":"n","device":"cpu0","reason":"first request","rule":"request","request":"req_1","took_ms":null},
  {"seq":8,"unix_ms":1795490286867,"event":"ready","replica":17,"node":"n","device":"cpu0","reason":"by start","rule":null,"request":null,"took_ms":83},
  {"seq":9,"unix_ms":1795490287000,"event":"failed","replica":17,"node":"n","device":"cpu0","reason":"crashed: \u001b[2Jsignal 11","rule":"failure","request":null,"took_ms":null}]})";

TEST_F(Events, AreALineEachWithWhyAndOnWhoseAccount) {
  std::string asked;
  FakeServer server([&](const auto& request, const auto& connection) {
    asked = request.target;
    connection.answer(200, kEvents);
  });
  const std::string out = run({"events", "m"}, server.url()).out;
  EXPECT_EQ(asked, "/admin/v1/models/m/events");
  EXPECT_TRUE(contains(out, "  starting             17  n/cpu0            first request [request req_1]\n")) << out;
  EXPECT_TRUE(contains(out, "  ready                17  n/cpu0            after 83 ms, by start\n")) << out;
  EXPECT_TRUE(contains(out, "signal 11 [failure]\n")) << out;
  EXPECT_FALSE(contains(out, "\x1b")) << "an engine's words do not move the cursor";
  EXPECT_EQ(run({"events", "m", "--tail", "0"}, server.url()).out, "");
  const std::string one = run({"events", "m", "--tail", "1", "--json"}, server.url()).out;
  EXPECT_TRUE(one.starts_with("{\"seq\":9,") && one.ends_with("}\n")) << one;
}

TEST_F(Events, ThatDidNotHappenAreSaidTo) {
  FakeServer server([&](const auto&, const auto& connection) { connection.answer(200, R"({"model":"m","events":[],"last":0})"); });
  const Outcome none = run({"events", "m"}, server.url());
  EXPECT_EQ(none.out, "");
  EXPECT_EQ(none.err, "nothing happened to m since the server was started\n");
  EXPECT_EQ(run({"events", ""}, server.url()).code, kExitUsage);
}

TEST_F(Events, AreFollowedFromTheLastOne) {
  std::string followed;
  FakeServer server([&](const auto& request, const auto& connection) {
    if (request.target.find("follow") == std::string::npos) return connection.answer(200, kEvents);
    followed = request.target;
    connection.answer(200, "{\"seq\":10,\"unix_ms\":1795490288000,\"event\":\"gone\",\"replica\":17,\"node\":\"n\",\"device\":\"cpu0\",\"reason\":\"nothing of it is left\"}\n");
  });
  const Outcome outcome = run({"events", "m", "-f", "--tail", "0"}, server.url());
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_EQ(followed, "/admin/v1/models/m/events?follow=1&after=9");
  EXPECT_TRUE(contains(outcome.out, "  gone                 17  n/cpu0            nothing of it is left\n")) << outcome.out;
}

TEST_F(Events, ExplainShowsThePlanAndWhereItsNumbersComeFrom) {
  FakeServer server([&](const auto&, const auto& connection) {
    connection.answer(200, R"({"model":"m","prospect":"begins_replica","summary":"a replica would start on n/cuda0","replica":null,"node":"n","devices":["cuda0","cuda1"],
      "way":"start","why":"n has no image of it","displaces":[{"replica":3,"model":"other","tenant":"default","to":"standby","in_flight":0},
      {"replica":null,"model":null,"tenant":null,"to":"stopped","in_flight":2}],"queued_before":4,"first_token_ms":1250,"at_least":true,
      "parts":[{"name":"start","ms":1250,"source":"3 starts took 1.25 s on average"},{"name":"first answer","ms":null,"source":"never measured"}],
      "refused_after_ms":120000,"refusal":null,"retry_after_ms":null})");
  });
  const std::string out = run({"explain", "m"}, server.url()).out;
  for (const char* part : {"a replica would start on n/cuda0\n", "where         n/cuda0+cuda1\n", "way up        start\n", "because       n has no image of it\n",
                           "makes room    instance 3 of other, which goes to standby\n", "makes room    another tenant's model, which is stopped once its 2 requests have ended\n",
                           "waiting       4 requests before it\n", "first token   at least 1.25 s\n", "start         1.25 s  3 starts took 1.25 s on average\n",
                           "first answer       ?  never measured\n"})
    EXPECT_TRUE(contains(out, part)) << part << "\n" << out;
}

TEST_F(Events, ExplainSaysWhatCameOfThePriorityThatWasAskedFor) {
  std::string asked;
  FakeServer server([&](const auto& request, const auto& connection) {
    asked = request.target;
    connection.answer(200, R"({"model":"m","prospect":"dispatched","summary":"there is a free slot","devices":[],"displaces":[],"priority":"normal","queued_before":0,
      "first_token_ms":1,"at_least":false,"parts":[],"refused_after_ms":1000,"refusal":null,"retry_after_ms":null})");
  });
  EXPECT_FALSE(contains(run({"explain", "m"}, server.url()).out, "priority"));
  EXPECT_EQ(asked, "/admin/v1/models/m/explain");
  EXPECT_TRUE(contains(run({"explain", "m", "--priority", "normal"}, server.url()).out, "priority      normal\n"));
  EXPECT_EQ(asked, "/admin/v1/models/m/explain?priority=normal");
  EXPECT_TRUE(contains(run({"explain", "m", "--priority", "high"}, server.url()).out, "priority      normal, as more is not its tenant's to ask for\n"));
  EXPECT_EQ(run({"explain", "m", "--priority", "urgent"}, server.url()).code, kExitUsage);
}

TEST_F(Events, ExplainSaysARefusalAsTheRequestWouldGetIt) {
  FakeServer server([&](const auto&, const auto& connection) {
    connection.answer(200, R"({"model":"m","prospect":"refused","summary":"model m is busy and its queue is full","devices":[],"displaces":[],"queued_before":9,
      "first_token_ms":null,"at_least":false,"parts":[],"refused_after_ms":1000,"refusal":"queue_full","retry_after_ms":2000})");
  });
  const std::string out = run({"explain", "m"}, server.url()).out;
  EXPECT_TRUE(contains(out, "refused: model m is busy and its queue is full\n")) << out;
  EXPECT_TRUE(contains(out, "error         queue_full\n")) << out;
  EXPECT_TRUE(contains(out, "come again    2.00 s\n")) << out;
  EXPECT_FALSE(contains(out, "first token")) << out;
}

}  // namespace
}  // namespace thaw::cli
