#include <gtest/gtest.h>

#include "spec/parse.h"

namespace thaw::spec {
namespace {

ModelSpec unusual_spec() {
  ModelSpec spec;
  spec.name = base::ModelName("m.1_x-y");
  spec.source.path = "/models/a \"b\"\\\n\t\xe2\x82\xac: #{}[],&*!|>'%@`.gguf";
  spec.engine_path = "/opt/engine";
  spec.args = {
      "",   " ",  "null", "~", "true", "1e3", "- a", "a: b", "# no comment", "\xf0\x9f\xa6\x99", "line one\nline two\n",
      "\"", "\\", "\x7f"};
  spec.env = {{"A", ""}, {"B", "x=y"}, {"_c1", "null"}};
  spec.sandbox = SandboxKind::runsc;
  spec.resources = {DeviceKind::cuda, (1ULL << 50) - 1, 3, 0.1 + 0.2, 7, 64, 100};
  spec.priority = Priority::low;
  spec.scaling = {3, 1000, 1024, base::Duration(1), {0, base::Duration(1'000'001)}};
  spec.cache.pin = true;
  spec.standby = {Mode::never, base::Duration(7)};
  spec.snapshot = {Mode::always};
  spec.start_deadline = base::Millis(1500);
  spec.request_timeout = base::Duration(9'007'199'254'741);
  spec.stall_timeout = std::chrono::microseconds(100'001);
  return spec;
}

TEST(ToJson, IsReadBackUnchanged) {
  const ModelSpec spec = unusual_spec();
  const std::string json = to_json(spec);
  const auto result = parse_model(json, "stored", "");
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->name, spec.name);
  EXPECT_EQ(result->source.path, spec.source.path);
  EXPECT_EQ(result->engine_path, spec.engine_path);
  EXPECT_EQ(result->args, spec.args);
  EXPECT_EQ(result->env, spec.env);
  EXPECT_EQ(result->sandbox, spec.sandbox);
  EXPECT_EQ(result->resources.device, spec.resources.device);
  EXPECT_EQ(result->resources.device_memory_bytes, spec.resources.device_memory_bytes);
  EXPECT_EQ(result->resources.cpus, spec.resources.cpus);
  EXPECT_EQ(result->resources.host_memory_bytes, spec.resources.host_memory_bytes);
  EXPECT_EQ(result->resources.pids, spec.resources.pids);
  EXPECT_EQ(result->scaling.min_replicas, 3U);
  EXPECT_EQ(result->scaling.idle_timeout, base::Duration(1));
  EXPECT_EQ(result->scaling.queue.timeout, base::Duration(1'000'001));
  EXPECT_TRUE(result->cache.pin);
  EXPECT_EQ(result->standby.mode, Mode::never);
  EXPECT_EQ(result->standby.timeout, base::Duration(7));
  EXPECT_EQ(result->snapshot.mode, Mode::always);
  EXPECT_EQ(result->start_deadline, spec.start_deadline);
  EXPECT_EQ(result->request_timeout, spec.request_timeout);
  EXPECT_EQ(result->stall_timeout, spec.stall_timeout);
  EXPECT_EQ(to_json(*result), json);
}

TEST(ToJson, KeepsTheOrderOfTheDocumentedShapeAndWritesDefaultsOut) {
  ModelSpec spec;
  spec.name = base::ModelName("m");
  spec.source.path = "/m.gguf";
  spec.resources.cpus = 2;
  EXPECT_EQ(
      to_json(spec),
      R"({"apiVersion":"thaw/v1","kind":"Model","metadata":{"name":"m"},"spec":{"source":{"path":"/m.gguf"},"engine":"llama.cpp",)"
      R"("resources":{"device":"cpu","cpus":2},"priority":"normal","scaling":{"minReplicas":0,"maxReplicas":1,"targetConcurrency":4,"idleTimeout":"300s",)"
      R"("queue":{"maxLength":512,"timeout":"120s"}},"cache":{"pin":false},"standby":{"mode":"auto","timeout":"600s","weights":"auto"},"snapshot":{"mode":"auto"},"startDeadline":"120s","requestTimeout":"600s","stallTimeout":"120s"}})");
}

TEST(ToJson, StaysReadableForTheLargestSpecThatIsAccepted) {
  ModelSpec spec;
  spec.name = base::ModelName("m");
  spec.source.path = "/" + std::string(4094, '"');
  spec.args = std::vector<std::string>(256, std::string(512, '\n'));
  for (int i = 0; i < 256; ++i) spec.env.emplace("V" + std::to_string(i), std::string(500, '\\'));
  EXPECT_TRUE(validate(spec).ok());
  spec.args[0] += "x";
  EXPECT_EQ(validate(spec).error().message,
            "spec.args: is too long; at most 256 entries and 131072 bytes are possible");
}

}  // namespace
}  // namespace thaw::spec
