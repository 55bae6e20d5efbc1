#include "cli/app.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "unit/cli/app_fixture.h"
#include "unit/cli/fake_server.h"

namespace thaw::cli {
namespace {

namespace fs = std::filesystem;

std::string event(const std::string& data) {
  return "data: " + data + "\n\n";
}
std::string token(const std::string& text) {
  return event(R"({"choices":[{"index":0,"delta":{"content":")" + text + R"("}}]})");
}
const std::string kStreamHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: req-7\r\nConnection: close\r\n\r\n";
const std::string kStreamEnd =
    event(R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})") +
    event(R"({"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}})") + event("[DONE]");

TEST_F(App, HelpOfEveryCommandHasAnExample) {
  for (const char* command : {"serve", "deploy", "ls", "ps", "run", "logs", "verify", "stop", "evict", "rm", "chat", "top", "events", "explain", "completion", "man", "schema", "freeze", "wake", "snapshot",
                              "images", "container-images", "cordon", "drain", "uncordon", "audit", "usage", "tenant", "key", "pull", "models", "doctor", "version"}) {
    const Outcome outcome = run({command, "--help"});
    EXPECT_EQ(outcome.code, kExitOk) << command;
    EXPECT_TRUE(contains(outcome.out, std::string("Example:\n  ")) &&
                contains(outcome.out, std::string("thaw ") + command))
        << outcome.out;
    EXPECT_TRUE(contains(outcome.out, "--json")) << command;
    EXPECT_EQ(outcome.err, "") << command;
  }
  EXPECT_TRUE(contains(run({"--help"}).out, "Exit codes:"));
  EXPECT_EQ(run({"help"}).out, run({"--help"}).out);
  EXPECT_EQ(run({"help", "run"}).out, run({"run", "--help"}).out);
}

TEST_F(App, RmTakesSeveralAndGoesOnAfterOneThatIsNot) {
  FakeServer server([&](const auto& request, const auto& connection) {
    connection.answer(request.target.ends_with("/b") ? 404 : 200, R"({"error":{"message":"no b"}})");
  });
  const Outcome outcome = run({"rm", "a", "b", "c"}, server.url());
  EXPECT_EQ(outcome.code, kExitNotFound);
  EXPECT_EQ(outcome.out, "removed a (its file stays)\nremoved c (its file stays)\n");
  EXPECT_EQ(outcome.err, "thaw: no b\n");
}

TEST_F(App, WrongUseIsTwoAndSaysWhereToLook) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{"deplyo", "x"}, "did you mean \"deploy\"?"},
      {{"xyzzy"}, "thaw --help"},
      {{"list"}, "it is `thaw ls` here"},
      {{"cp", "a", "b"}, "it is `thaw deploy --alias` here"},
      {{"help", "deplyo"}, "did you mean \"deploy\"?"},
      {{"run"}, "thaw run: MODEL is required; see `thaw run --help`"},
      {{"run", "m", "p", "--max-tokens", "0"}, "--max-tokens"},
      {{"run", "m", "p", "--temperature", "9"}, "--temperature"},
      {{"ls", "--bogus"}, "thaw ls: unknown option --bogus; see `thaw ls --help`"},
      {{"deploy", "x.gguf", "--idle-timout", "5s"}, "thaw deploy: unknown option --idle-timout; did you mean --idle-timeout? See `thaw deploy --help`"},
      {{"tenant", "create", "acme", "--requests=1"}, "did you mean --requests-per-second?"},
      {{"ls", "a", "b"}, "b"},
      {{"logs", "m", "--tail", "-1"}, "--tail"},
      {{"stop", ""}, "empty"},
      {{"rm"}, "MODEL is required"},
      {{"deploy"}, "names nothing to deploy; give a spec"},
      {{"deploy", "x.yaml", "--device", "tpu"}, "tpu"},
      {{"serve", "--sandbox=docker"}, "docker"},
      {{"serve", "--listen", "nowhere:99999"}, "--listen"},
      {{"serve", "--config", "/does/not/exist.yaml"}, "/does/not/exist.yaml"},
  };
  for (const auto& [arguments, hint] : cases) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, kExitUsage) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, hint)) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  EXPECT_FALSE(served_.has_value());
  EXPECT_EQ(run({}).code, kExitUsage);
}

TEST_F(App, ServeHandsItsFlagsOnAndReturnsTheServersCode) {
  EXPECT_EQ(run({"serve"}).code, 42);
  ASSERT_TRUE(served_.has_value());
  EXPECT_FALSE(served_->data_dir || served_->listen || served_->sandbox || served_->log_level || served_->dev ||
               served_->log_json);

  EXPECT_EQ(run({"serve", "--data-dir", "/d", "--listen", ":8080", "--dev", "--sandbox=none", "--log-level", "debug",
                 "--json"})
                .code,
            42);
  EXPECT_EQ(served_->data_dir, "/d");
  EXPECT_EQ(served_->listen, ":8080");
  EXPECT_EQ(served_->sandbox, spec::SandboxKind::none);
  EXPECT_EQ(served_->log_level, "debug");
  EXPECT_TRUE(served_->dev && served_->log_json);
}

TEST_F(App, ServerFailuresBecomeExitCodes) {
  EXPECT_EQ(run({"ls"}, unreachable_url()).code, kExitUnreachable);
  std::atomic<int> status{404};
  FakeServer server(
      [&](const auto&, const auto& connection) { connection.answer(status, R"({"error":{"message":"said so"}})"); });
  const std::vector<std::pair<int, int>> cases{
      {404, kExitNotFound}, {401, kExitDenied}, {400, kExitUsage}, {503, kExitFailure}, {500, kExitFailure}};
  for (const auto& [http, code] : cases) {
    status = http;
    for (const auto& arguments :
         std::vector<std::vector<std::string>>{{"rm", "m"}, {"logs", "m"}, {"run", "m", "hi"}}) {
      const Outcome outcome = run(arguments, server.url());
      EXPECT_EQ(outcome.code, code) << arguments[0] << " " << http;
      EXPECT_TRUE(outcome.err.starts_with("thaw: said so")) << outcome.err;
    }
  }
}

constexpr const char* kModels = R"({"models":[
  {"name":"stories","state":"ready","ready":1,"starting":0,"in_flight":2,"queued":0,"max_replicas":2,"device":"cpu",
   "device_memory_bytes":67108864,"weights_bytes":1185376,"created_unix_ms":1000},
  {"name":"broken","state":"backoff","ready":0,"starting":0,"in_flight":0,"queued":3,"max_replicas":1,"device":"cpu",
   "device_memory_bytes":1073741824,"last_failure":"exit status 1","created_unix_ms":1000}]})";

TEST_F(App, LsShowsModelsAndWhyOneFails) {
  FakeServer server([&](const auto&, const auto& connection) { connection.answer(200, kModels); });
  const Outcome outcome = run({"ls"}, server.url());
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_TRUE(outcome.out.starts_with("NAME     STATE    REPLICAS  ACTIVE  QUEUED  DEVICE  MEMORY  WEIGHTS"))
      << outcome.out;
  EXPECT_TRUE(contains(outcome.out, "\nstories  ready         1/2       2       0  cpu      64MiB   1.1MiB"))
      << outcome.out;
  EXPECT_TRUE(contains(outcome.out, "\nbroken: exit status 1\n")) << outcome.out;
  EXPECT_FALSE(contains(outcome.out, "\x1b"));
  EXPECT_EQ(run({"ls", "--json"}, server.url()).out, std::string(kModels) + "\n");
  EXPECT_EQ(server.requests()[0].target, "/admin/v1/models");
}

TEST_F(App, LsOfOneModelAsksForItAlone) {
  FakeServer server([&](const auto&, const auto& connection) {
    connection.answer(
        200, R"({"name":"m","state":"asleep","engine":"llama.cpp","min_replicas":0,"max_replicas":2,"cold_starts":7})");
  });
  const Outcome outcome = run({"ls", "m"}, server.url());
  EXPECT_EQ(server.requests()[0].target, "/admin/v1/models/m");
  EXPECT_TRUE(contains(outcome.out, "state         asleep\n")) << outcome.out;
  EXPECT_TRUE(contains(outcome.out, "cold starts   7, 0 failed")) << outcome.out;
}

TEST_F(App, PsShowsInstancesAndDevices) {
  const std::string body =
      R"({"instances":[{"id":7,"model":"m","state":"ready","way":"start","device":"cpu0","device_bytes":1048576,"memory_bytes":2097152,"held_bytes":1572864,
    "weights_resident_bytes":3145728,
    "in_flight":1,"served":9,"age_ms":61000,"idle_ms":null,"pid":4242}],
    "devices":[{"id":"cpu0","name":"Some CPU","reserved_bytes":1048576,"budget_bytes":1073741824,"total_bytes":2147483648}]})";
  FakeServer server([&](const auto&, const auto& connection) { connection.answer(200, body); });
  const Outcome outcome = run({"ps"}, server.url());
  EXPECT_TRUE(
      contains(outcome.out, "\n 7  m      ready  start  cpu0        1MiB  1.5MiB     -     3MiB       1       9   1m     -  4242\n"))
      << outcome.out;
  EXPECT_TRUE(contains(outcome.out, "cpu0    Some CPU      1MiB    1GiB   2GiB\n")) << outcome.out;

  FakeServer idle(
      [](const auto&, const auto& connection) { connection.answer(200, R"({"instances":[],"devices":[]})"); });
  EXPECT_TRUE(contains(run({"ps"}, idle.url()).err, "every model is asleep"));
}

TEST_F(App, StopAndRmCallTheirRoutes) {
  FakeServer server([&](const auto& request, const auto& connection) {
    connection.answer(200,
                      request.method == "DELETE" ? R"({"name":"m","deleted":true})" : R"({"name":"m","stopping":2})");
  });
  EXPECT_EQ(run({"stop", "m"}, server.url()).out, "stopping 2 instances of m\n");
  EXPECT_EQ(run({"stop", "m", "--kill", "--json"}, server.url()).out, "{\"name\":\"m\",\"stopping\":2}\n");
  EXPECT_EQ(run({"rm", "m"}, server.url()).code, kExitOk);
  const auto requests = server.requests();
  EXPECT_EQ(requests[0].method + requests[0].target, "POST/admin/v1/models/m/stop");
  EXPECT_EQ(requests[1].target, "/admin/v1/models/m/stop?kill=1");
  EXPECT_EQ(requests[2].method + requests[2].target, "DELETE/admin/v1/models/m");
}

TEST_F(App, EvictSaysWhatLeftAndWhatDidNot) {
  std::string answer = R"({"name":"m","freed_bytes":1073741824,"resident_bytes":0,"why_left":""})";
  FakeServer server([&](const auto&, const auto& connection) { connection.answer(200, answer); });
  EXPECT_EQ(run({"evict", "m"}, server.url()).out, "1GiB of m left host memory\n");
  EXPECT_EQ(server.requests()[0].method + server.requests()[0].target, "POST/admin/v1/models/m/evict");
  answer = R"({"name":"m","freed_bytes":0,"resident_bytes":2097152,"why_left":"mapped by process 7"})";
  EXPECT_EQ(run({"evict", "m"}, server.url()).out, "0B of m left host memory, 2MiB stay: mapped by process 7\n");
  EXPECT_EQ(run({"evict", "m", "--json"}, server.url()).out, answer + "\n");
}

TEST_F(App, LsShowsHowMuchOfTheWeightsIsInMemory) {
  FakeServer server([&](const auto&, const auto& connection) {
    connection.answer(200, R"({"models":[{"name":"a","weights_bytes":1000,"resident_bytes":1000,"pinned":true},
      {"name":"b","weights_bytes":1000,"resident_bytes":999},{"name":"c","weights_bytes":1000,"resident_bytes":1},
      {"name":"d","weights_bytes":1000,"resident_bytes":0},{"name":"e","weights_bytes":1000,"resident_bytes":null}]})");
  });
  const std::string out = run({"ls"}, server.url()).out;
  for (const char* part : {" 100%, pinned ", " 99% ", " 1% ", " 0% ", " ? "}) EXPECT_TRUE(contains(out, part)) << part << "\n" << out;
}

TEST_F(App, LogsArePassedThroughOrWrappedInJson) {
  FakeServer server([&](const auto&, const auto& connection) { connection.answer(200, "one\ntwo \"quoted\"\nlast"); });
  EXPECT_EQ(run({"logs", "m", "--tail", "3", "-f"}, server.url()).out, "one\ntwo \"quoted\"\nlast");
  EXPECT_EQ(run({"logs", "m", "--json"}, server.url()).out,
            "{\"line\":\"one\"}\n{\"line\":\"two \\\"quoted\\\"\"}\n{\"line\":\"last\"}\n");
  EXPECT_EQ(server.requests()[0].target, "/admin/v1/models/m/logs?tail=3&follow=1");
  EXPECT_EQ(server.requests()[1].target, "/admin/v1/models/m/logs?tail=100");
}

TEST_F(App, RunStreamsTheAnswer) {
  FakeServer server([&](const auto&, const auto& connection) {
    connection.send(kStreamHead + ": waking\n\n" + token("Once") + token(" upon") + kStreamEnd);
  });
  const Outcome outcome =
      run({"run", "m", "hi", "--max-tokens", "9", "--temperature", "0", "--system", "be kind"}, server.url());
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_EQ(outcome.out, "Once upon\n");
  EXPECT_EQ(outcome.err, "");
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].target, "/v1/chat/completions");
  const auto body = boost::json::parse(requests[0].body);
  EXPECT_EQ(body, boost::json::parse(
                      R"({"model":"m","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hi"}],
    "stream":true,"stream_options":{"include_usage":true},"max_tokens":9,"temperature":0E0})"));
}

TEST_F(App, RunReportsErrorsInsideTheStreamAndAnswersThatBreakOff) {
  const std::map<std::string, std::string> streams{
      {"crash", token("half") + event(R"({"error":{"message":"the engine crashed","type":"server_error"}})")},
      {"cut", token("half")},
      {"garbage", event("not json")}};
  FakeServer server([&](const auto& request, const auto& connection) {
    const auto model = boost::json::parse(request.body).at("model").as_string();
    connection.send(kStreamHead + streams.at(std::string(model)));
  });
  Outcome outcome = run({"run", "crash", "hi"}, server.url());
  EXPECT_EQ(outcome.code, kExitFailure);
  EXPECT_EQ(outcome.out, "half\n");
  EXPECT_EQ(outcome.err, "thaw: the engine crashed\n");

  outcome = run({"run", "cut", "hi"}, server.url());
  EXPECT_EQ(outcome.code, kExitFailure);
  EXPECT_TRUE(contains(outcome.err, "broke off")) << outcome.err;

  EXPECT_EQ(run({"run", "garbage", "hi"}, server.url()).code, kExitFailure);
}

constexpr const char* kRecord =
    R"({"id":"req-7","status":200,"cold":true,"queued_ms":120,"ttft_ms":200,"total_ms":400,"prompt_tokens":5,
  "completion_tokens":3,"attempts":1,"phases":[{"name":"sandbox","start_ms":0,"duration_ms":30},{"name":"load","start_ms":30,"duration_ms":90},
  {"name":"weights","start_ms":0,"duration_ms":100,"read_bytes":209715200,"resident_bytes":1048576}]})";

TEST_F(App, RunWaitsForTheTimelineAndDrawsIt) {
  std::atomic<int> asked{0};
  FakeServer server([&](const auto& request, const auto& connection) {
    if (request.method == "POST") return connection.send(kStreamHead + token("Once") + kStreamEnd);
    const int count = asked++;
    if (count == 0) return connection.answer(404, R"({"error":{"message":"not yet"}})");
    if (count == 1) return connection.answer(200, R"({"done":false,"phases":[]})");
    connection.answer(200, kRecord);
  });
  const Outcome outcome = run({"run", "m", "hi", "--timing"}, server.url());
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_EQ(outcome.out, "Once\n");
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(server.requests()[1].target, "/admin/v1/requests/req-7");
  EXPECT_TRUE(contains(outcome.err, "tokens       5 in, 3 out, 10.0 tokens/s\n")) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "start        cold, waited 120 ms for a replica\nfirst token  200 ms\n"))
      << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "weights      200MiB read in 100 ms (2.10 GB/s), 1MiB in memory already\n")) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "sandbox    0.0 ms     30 ms  ####")) << outcome.err;
}

TEST_F(App, TheTimelineSaysWhichWayUpItWas) {
  FakeServer server([&](const auto& request, const auto& connection) {
    if (request.method == "POST") return connection.send(kStreamHead + token("Once") + kStreamEnd);
    connection.answer(200, R"({"id":"req-7","status":200,"cold":true,"way":"wake","why":"first request","queued_ms":20,"ttft_ms":30,
      "total_ms":40,"prompt_tokens":5,"completion_tokens":3,"attempts":1,"phases":[{"name":"thaw","start_ms":0,"duration_ms":2}]})");
  });
  const Outcome outcome = run({"run", "m", "hi", "--timing"}, server.url());
  EXPECT_TRUE(contains(outcome.err, "way up       wake: first request\n")) << outcome.err;
}

TEST_F(App, RunWithoutATimelineStillSucceeds) {
  FakeServer server([&](const auto& request, const auto& connection) {
    if (request.method == "POST") return connection.send(kStreamHead + token("Once") + kStreamEnd);
    connection.answer(403, R"({"error":{"message":"not an admin key"}})");
  });
  const Outcome outcome = run({"run", "m", "hi", "--timing"}, server.url());
  EXPECT_EQ(outcome.code, kExitOk);
  EXPECT_TRUE(contains(outcome.err, "not an admin key")) << outcome.err;
  EXPECT_EQ(server.requests().size(), 2U);
}

TEST_F(App, RunJsonIsOneObject) {
  FakeServer server([&](const auto& request, const auto& connection) {
    if (request.method == "POST") return connection.send(kStreamHead + token("Once") + token("!") + kStreamEnd);
    connection.answer(200, kRecord);
  });
  const Outcome outcome = run({"run", "m", "hi", "--json"}, server.url());
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  const auto object = boost::json::parse(outcome.out).as_object();
  EXPECT_EQ(object.at("text"), "Once!");
  EXPECT_EQ(object.at("finish_reason"), "stop");
  EXPECT_EQ(object.at("usage").at("total_tokens"), 8);
  EXPECT_EQ(object.at("timing").at("cold"), true);
  EXPECT_EQ(object.at("request_id"), "req-7");
}

TEST_F(App, ControlCEndsARunWith130AndCancelsTheRequest) {
  std::atomic<bool> cancelled{false};
  {
    const pthread_t commander = pthread_self();
    FakeServer server([&](const auto&, const auto& connection) {
      connection.send(kStreamHead + token("never ending"));
      pthread_kill(commander, SIGINT);  // the command blocks it before it connects
      cancelled = connection.closed_by_client(10'000);
    });
    const Outcome outcome = run({"run", "m", "hi"}, server.url());
    EXPECT_EQ(outcome.code, kExitInterrupted) << outcome.err;
  }
  EXPECT_TRUE(cancelled);
}

TEST_F(App, DeploySendsTheSpecAndShowsTheFacts) {
  std::string pattern = fs::temp_directory_path() / "thaw-app-XXXXXX";
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  const std::string path = pattern + "/Tiny.gguf";
  { std::ofstream(path) << "GGUF"; }
  FakeServer server([](const auto& request, const auto& connection) {
    const std::string created = contains(request.body, "\"maxReplicas\":2") ? "true" : "false";
    connection.answer(
        200, R"({"name":"tiny","created":)" + created +
                 R"(,"facts":{"format":"gguf v3","weights_bytes":1048576,"estimated_device_bytes":67108864}})");
  });
  EXPECT_EQ(run({"deploy", path, "--max-replicas", "2"}, server.url()).out,
            "deployed tiny: gguf v3, 1MiB of weights, 64MiB on cpu a replica\n");
  EXPECT_TRUE(run({"deploy", path}, server.url()).out.starts_with("updated tiny"));
  const auto requests = server.requests();
  fs::remove_all(pattern);
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].method + requests[0].target, "POST/admin/v1/models");
  const auto sent = boost::json::parse(requests[0].body).as_object();
  EXPECT_EQ(sent.at("metadata").at("name").as_string(), "tiny");
  EXPECT_EQ(std::string(sent.at("spec").at("source").at("path").as_string()), path);
  EXPECT_EQ(sent.at("spec").at("scaling").at("maxReplicas"), 2);
}

TEST_F(App, DoctorFailsOnlyOnFailures) {
  using Level = node::Finding::Level;
  findings_ = {{"runc", Level::ok, "1.1.5", ""}, {"cuda", Level::warning, "no driver", "install it"}};
  Outcome outcome = run({"doctor", "--data-dir", "/somewhere"}, unreachable_url());
  EXPECT_EQ(outcome.code, kExitOk);
  EXPECT_EQ(examined_->data_dir, "/somewhere");
  EXPECT_TRUE(contains(outcome.out, "warning  cuda    no driver\n                 -> install it\n")) << outcome.out;
  EXPECT_TRUE(contains(outcome.out, "note     server  cannot reach thaw")) << outcome.out;

  findings_.push_back({"cgroups", Level::failure, "not writable", "run as root"});
  outcome = run({"doctor", "--json"}, unreachable_url());
  EXPECT_EQ(outcome.code, kExitFailure);
  const auto object = boost::json::parse(outcome.out).as_object();
  EXPECT_EQ(object.at("ok"), false);
  EXPECT_EQ(object.at("findings").as_array().size(), 4U);
}

/// A server with the models "a" and "b" whose verification answers these lines.
FakeServer::Handler verifying(const std::map<std::string, std::string>& lines) {
  return [lines](const FakeServer::Request& request, FakeServer::Connection& connection) {
    if (request.target == "/admin/v1/models") return connection.answer(200, R"({"models":[{"name":"a"},{"name":"b"}]})");
    for (const auto& [model, body] : lines) {
      if (request.target != "/admin/v1/models/" + model + "/verify") continue;
      connection.send("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n" + body);
      return;
    }
    connection.answer(404, R"({"error":{"message":"there is no such model"}})");
  };
}
const std::string kIntact = R"({"path":"/m/a.gguf","outcome":"intact","bytes":2048,"sha256":"aa","recorded_sha256":"aa","detail":""})"
                            "\n";
const std::string kChanged =
    R"({"path":"/m/b.gguf","outcome":"changed","bytes":1,"sha256":"cc","recorded_sha256":"bb","detail":"it was written to"})"
    "\n";

TEST_F(App, VerifyNamesTheFileBothDigestsAndTheRemedy) {
  const FakeServer server(verifying({{"a", kIntact + "{\"model\":\"a\",\"ok\":true,\"error\":null}\n"},
                                     {"b", kIntact + kChanged + "{\"model\":\"b\",\"ok\":false,\"error\":null}\n"}}));
  const Outcome good = run({"verify", "a"}, server.url());
  EXPECT_EQ(good.code, kExitOk) << good.err;
  EXPECT_EQ(good.out, "intact    /m/a.gguf (2KiB, sha256 aa)\n");
  const Outcome bad = run({"verify", "b"}, server.url());
  EXPECT_EQ(bad.code, kExitFailure);
  EXPECT_TRUE(contains(bad.out, "changed   /m/b.gguf: it was written to\n          sha256 now      cc\n          sha256 recorded bb\n")) << bad.out;
  EXPECT_TRUE(contains(bad.err, "the files of b are not those that were deployed: fetch them again")) << bad.err;
  const Outcome all = run({"verify"}, server.url());
  EXPECT_EQ(all.code, kExitFailure);
  EXPECT_TRUE(contains(all.out, "/m/b.gguf") && contains(all.out, "/m/a.gguf"));
  EXPECT_EQ(run({"verify", "c"}, server.url()).code, kExitNotFound);
}

TEST_F(App, VerifyJsonIsOneObject) {
  const FakeServer server(verifying({{"a", kIntact + "{\"model\":\"a\",\"ok\":true,\"error\":null}\n"},
                                     {"b", kChanged + "{\"model\":\"b\",\"ok\":false,\"error\":null}\n"}}));
  const Outcome outcome = run({"verify", "--json"}, server.url());
  EXPECT_EQ(outcome.code, kExitFailure);
  const auto answer = boost::json::parse(outcome.out);
  EXPECT_FALSE(answer.at("ok").as_bool());
  EXPECT_TRUE(answer.at("models").at(0).at("ok").as_bool());
  EXPECT_EQ(answer.at("models").at(1).at("files").at(0).at("recorded_sha256").as_string(), "bb");
}

TEST_F(App, VerifySaysWhenTheAnswerBreaksOff) {
  const FakeServer server(verifying({{"a", kIntact}, {"b", "{\"model\":\"b\",\"ok\":false,\"error\":\"the server is shutting down\"}\n"}}));
  const Outcome cut = run({"verify", "a"}, server.url());
  EXPECT_EQ(cut.code, kExitFailure);
  EXPECT_TRUE(contains(cut.err, "broke off")) << cut.err;
  EXPECT_TRUE(contains(run({"verify", "b"}, server.url()).err, "cannot verify b: the server is shutting down"));
}

TEST_F(App, DoctorMeasuresEachDiskOnceAndRemembersIt) {
  const fs::path state = fs::temp_directory_path() / ("thaw-app-test-" + std::to_string(::getpid()));
  fs::create_directories(state);
  const std::string file = (state / "model.gguf").string();
  std::ofstream(file) << "x";
  FakeServer server([&](const auto&, const auto& connection) {
    connection.answer(200, R"({"models":[{"name":"m","source":")" + file + R"("}]})");
  });

  Outcome outcome = run({"doctor", "--disks", "--data-dir", state.string()}, server.url());
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_EQ(calibrated_, std::vector<std::string>{file}) << "the model lies on the data directory's disk, and can be read";
  EXPECT_TRUE(contains(outcome.out, "512KiB")) << outcome.out;
  EXPECT_TRUE(contains(outcome.out, "3.21  direct, threads  io_uring is forbidden\n")) << outcome.out;
  EXPECT_EQ(node::stored_read_settings(state.string(), file), (node::ReadSettings{512 << 10, 16}));

  outcome = run({"doctor", "--disks", "--data-dir", state.string(), "--path", "/missing", "--json"}, unreachable_url());
  EXPECT_EQ(outcome.code, kExitFailure);
  const auto object = boost::json::parse(outcome.out).as_object();
  EXPECT_EQ(object.at("ok"), false);
  const auto& disks = object.at("disks").as_array();
  ASSERT_EQ(disks.size(), 2U);
  EXPECT_EQ(disks[0].at("depth"), 16);
  EXPECT_EQ(disks[0].at("direct"), true);
  EXPECT_TRUE(contains(boost::json::serialize(disks[1]), "cannot look at /missing"));

  calibration_error_ = base::Error{base::ErrorKind::exhausted, "no room"};
  outcome = run({"doctor", "--disks", "--data-dir", state.string()}, unreachable_url());
  EXPECT_EQ(outcome.code, kExitFailure);
  EXPECT_TRUE(contains(outcome.out, "no room")) << outcome.out;
  EXPECT_EQ(run({"doctor", "--path", "/tmp"}).code, kExitUsage) << "--path is for --disks";
  fs::remove_all(state);
}

}  // namespace
}  // namespace thaw::cli
