// Standby and images on the command line.
#include "unit/cli/app_fixture.h"
#include "unit/cli/fake_server.h"

namespace thaw::cli {
namespace {

using Tiers = App;

TEST_F(Tiers, PsShowsStandbyAndWhatIsHeldBesideTheDevices) {
  const std::string body =
      R"({"instances":[{"id":7,"model":"m","state":"standby","way":"wake","device":"cuda0","device_bytes":0,"host_bytes":2097152,
    "held_bytes":1572864,"weights_resident_bytes":0,"in_flight":0,"served":9,"age_ms":61000,"idle_ms":null,"pid":4242},
    {"id":8,"model":"m","state":"starting","way":"restore","image":"m-3","device":"cuda0","device_bytes":1048576,"host_bytes":0,
    "in_flight":0,"served":0,"age_ms":100,"idle_ms":null,"pid":0}],
    "devices":[{"id":"cuda0","name":"Some GPU","reserved_bytes":1048576,"budget_bytes":1073741824,"total_bytes":2147483648}],
    "nodes":[{"node":"local","host_reserved_bytes":2097152,"host_budget_bytes":1073741824,"image_reserved_bytes":1048576,
    "image_budget_bytes":3221225472}]})";
  FakeServer server([&](const auto&, const auto& connection) { connection.answer(200, body); });
  const std::string out = run({"ps"}, server.url()).out;
  EXPECT_TRUE(contains(out, "\n 7  m      standby   wake     cuda0          -  1.5MiB  2MiB        -       0       9   1m     -  4242\n")) << out;
  EXPECT_TRUE(contains(out, "\n 8  m      starting  restore  cuda0       1MiB       -     -        -       0       0  now     -     -\n")) << out;
  EXPECT_TRUE(contains(out, "\nlocal         2MiB    1GiB    1MiB    3GiB\n")) << out;
}

TEST_F(Tiers, LsShowsStandbyImagesAndWhatWaysUpCost) {
  FakeServer many([&](const auto&, const auto& connection) {
    connection.answer(200, R"({"models":[{"name":"a","state":"standby","standby":1,"max_replicas":2,"images":1,"image_bytes":3145728},
      {"name":"b","state":"waking","waking":1,"max_replicas":1,"images":0}]})");
  });
  const std::string table = run({"ls"}, many.url()).out;
  EXPECT_TRUE(contains(table, "\na     standby     0+1/2")) << table;
  EXPECT_TRUE(contains(table, "\nb     waking        1/1")) << table;
  EXPECT_TRUE(contains(table, "  3MiB  ")) << table;
  FakeServer one([&](const auto&, const auto& connection) {
    connection.answer(200, R"({"name":"m","state":"standby","standby":1,"max_replicas":2,"images":1,"image_bytes":2097152,"tiers":{
      "rests":"in standby: wakes in 20 ms, starts in 1.2 s","freezes":3,"freeze_failures":0,"wakes":2,"wake_failures":1,"restores":4,
      "restore_failures":1,"last_snapshot_failure":"no space","costs":{"start":{"mean_ms":1200,"deviation_ms":100,"samples":4},
      "restore":{"mean_ms":400,"deviation_ms":0,"samples":1},"wake":{"mean_ms":20,"deviation_ms":0,"samples":2},
      "freeze":{"mean_ms":0,"deviation_ms":0,"samples":0}}}})");
  });
  const std::string out = run({"ls", "m"}, one.url()).out;
  for (const char* part : {"rests         in standby: wakes in 20 ms, starts in 1.2 s\n",
                           "standby       3 freezes (0 failed), 2 wakes (1 failed), 4 restores (1 failed)\n",
                           "costs         start takes 1.20 s (+-100 ms), restore takes 400 ms, wake takes 20 ms\n",
                           "images        1, 2MiB, see `thaw images`\n", "no image      no space\n"})
    EXPECT_TRUE(contains(out, part)) << part << "\n" << out;
}

TEST_F(Tiers, FreezeWakeAndSnapshotCallTheirRoutes) {
  FakeServer server([&](const auto& request, const auto& connection) {
    if (request.target.ends_with("/freeze")) return connection.answer(200, R"({"name":"m","freezing":2})");
    if (request.target.ends_with("/wake")) return connection.answer(200, R"({"name":"m","waking":true})");
    if (request.target.ends_with("/snapshot")) return connection.answer(202, R"({"name":"m","image":"m-7"})");
    connection.answer(409, R"({"error":{"message":"cannot"}})");
  });
  EXPECT_EQ(run({"freeze", "m"}, server.url()).out, "freezing 2 instances of m\n");
  EXPECT_EQ(run({"wake", "m"}, server.url()).out, "waking m\n");
  EXPECT_EQ(run({"snapshot", "m"}, server.url()).out, "making image m-7 of m; `thaw images` shows it when it is done\n");
  EXPECT_EQ(run({"wake", "m", "--json"}, server.url()).out, "{\"name\":\"m\",\"waking\":true}\n");
  const auto requests = server.requests();
  EXPECT_EQ(requests[0].method + requests[0].target, "POST/admin/v1/models/m/freeze");
  EXPECT_EQ(requests[1].method + requests[1].target, "POST/admin/v1/models/m/wake");
  EXPECT_EQ(requests[2].method + requests[2].target, "POST/admin/v1/models/m/snapshot");

  FakeServer refuses([&](const auto&, const auto& connection) {
    connection.answer(409, R"({"error":{"message":"cannot freeze m: its replicas are busy"}})");
  });
  const Outcome refused = run({"freeze", "m"}, refuses.url());
  EXPECT_EQ(refused.code, kExitFailure);
  EXPECT_EQ(refused.out, "");
  EXPECT_TRUE(contains(refused.err, "cannot freeze m: its replicas are busy")) << refused.err;
}

TEST_F(Tiers, ImagesAreListedAndRemoved) {
  FakeServer server([&](const auto& request, const auto& connection) {
    if (request.method == "DELETE") return connection.answer(200, R"({"id":"m-7","dropping":true})");
    connection.answer(200, R"({"images":[{"id":"m-7","model":"m","node":"local","driver":"runsc","bytes":2097152,"restores":3,
      "created_unix_ms":1000,"dropping":false},{"id":"n-9","model":"n","node":"local","driver":"criu","bytes":1048576,"restores":0,
      "created_unix_ms":1000,"dropping":true}]})");
  });
  const std::string out = run({"images"}, server.url()).out;
  EXPECT_TRUE(contains(out, "\nm-7  m      local  runsc   2MiB         3")) << out;
  EXPECT_TRUE(contains(out, "ready\nn-9  n      local  criu    1MiB         0")) << out;
  EXPECT_EQ(run({"images", "rm", "m-7"}, server.url()).out, "dropping image m-7\n");
  EXPECT_EQ(server.requests().back().method + server.requests().back().target, "DELETE/admin/v1/images/m-7");
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"images", "rm"}, {"images", "drop", "m-7"}})
    EXPECT_EQ(run(wrong, server.url()).code, kExitUsage) << wrong.back();

  FakeServer none([](const auto&, const auto& connection) { connection.answer(200, R"({"images":[]})"); });
  EXPECT_TRUE(contains(run({"images"}, none.url()).err, "no images"));
}

}  // namespace
}  // namespace thaw::cli
