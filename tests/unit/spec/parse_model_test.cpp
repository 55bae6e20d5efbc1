#include <gtest/gtest.h>

#include "spec/parse.h"

namespace thaw::spec {
namespace {

using std::chrono::hours;

constexpr const char* kWhole = R"(apiVersion: thaw/v1
kind: Model
metadata: {name: stories}
spec:
  source: {path: ./stories260K.gguf}
  engine: llama.cpp
  enginePath: bin/llama-server
  args: ["-c", 512, --flash-attn]
  env: {LLAMA_ARG_THREADS: "4", EMPTY: ""}
  resources: {device: cuda, deviceMemory: 64MiB, cpus: 1.5, hostMemory: 1GiB}
  scaling: {minReplicas: 1, maxReplicas: 2, targetConcurrency: 8, idleTimeout: 5s,
            queue: {maxLength: 100, timeout: 60s}}
  cache: {pin: true}
  standby: {mode: always, timeout: 90s}
  snapshot: {mode: never}
  startDeadline: 30s
  requestTimeout: 2m
  stallTimeout: 15s
)";

constexpr const char* kHead = "apiVersion: thaw/v1\nkind: Model\nmetadata: {name: m}\n";

ModelSpec parse(const std::string& text) {
  auto result = parse_model(text, "m.yaml", "/models");
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
  return result.ok() ? *result : ModelSpec{};
}

std::string error(const std::string& text) {
  const auto result = parse_model(text, "m.yaml", "/models");
  if (result.ok()) return "(no error)";
  EXPECT_EQ(result.error().kind, base::ErrorKind::invalid);
  return result.error().message;
}

/// The error of a model whose spec has a source and this line 6, written with two spaces in front.
std::string error_of_line(const std::string& line) {
  return error(kHead + ("spec:\n  source: {path: /m.gguf}\n  " + line + "\n"));
}

TEST(ParseModel, ReadsEveryKey) {
  const ModelSpec spec = parse(kWhole);
  EXPECT_EQ(spec.name.str(), "stories");
  EXPECT_EQ(spec.source.path, "/models/stories260K.gguf");
  EXPECT_EQ(spec.engine, EngineKind::llama_cpp);
  EXPECT_EQ(spec.engine_path, "/models/bin/llama-server");
  EXPECT_EQ(spec.args, (std::vector<std::string>{"-c", "512", "--flash-attn"}));
  EXPECT_EQ(spec.env, (std::map<std::string, std::string>{{"LLAMA_ARG_THREADS", "4"}, {"EMPTY", ""}}));
  EXPECT_EQ(spec.resources.device, DeviceKind::cuda);
  EXPECT_EQ(spec.resources.device_memory_bytes, 64ULL << 20);
  EXPECT_EQ(spec.resources.cpus, 1.5);
  EXPECT_EQ(spec.resources.host_memory_bytes, 1ULL << 30);
  EXPECT_TRUE(spec.cache.pin);
  EXPECT_EQ(spec.standby.mode, Mode::always);
  EXPECT_EQ(spec.standby.timeout, base::Seconds(90));
  EXPECT_EQ(spec.snapshot.mode, Mode::never);
  EXPECT_EQ(spec.scaling.min_replicas, 1U);
  EXPECT_EQ(spec.scaling.max_replicas, 2U);
  EXPECT_EQ(spec.scaling.target_concurrency, 8U);
  EXPECT_EQ(spec.scaling.idle_timeout, base::Seconds(5));
  EXPECT_EQ(spec.scaling.queue.max_length, 100U);
  EXPECT_EQ(spec.scaling.queue.timeout, base::Seconds(60));
  EXPECT_EQ(spec.start_deadline, base::Seconds(30));
  EXPECT_EQ(spec.request_timeout, base::Seconds(120));
  EXPECT_EQ(spec.stall_timeout, base::Seconds(15));
}

TEST(ParseModel, HasDefaultsForAllButNameAndSource) {
  const ModelSpec spec = parse(kHead + std::string("spec: {source: {path: /m.gguf}}"));
  EXPECT_EQ(spec.resources.device, DeviceKind::cpu);
  EXPECT_FALSE(spec.resources.device_memory_bytes.has_value());
  EXPECT_FALSE(spec.resources.cpus.has_value());
  EXPECT_EQ(spec.scaling.max_replicas, 1U);
  EXPECT_EQ(spec.request_timeout, base::Seconds(600));
}

TEST(ParseModel, TakesABareNumberForBytes) {
  EXPECT_EQ(parse(kHead + std::string("spec: {source: {path: /m}, resources: {deviceMemory: 123456789}}"))
                .resources.device_memory_bytes,
            123'456'789U);
}

TEST(ParseModel, TakesJson) {
  EXPECT_EQ(
      parse(
          R"({"apiVersion":"thaw/v1","kind":"Model","metadata":{"name":"m"},"spec":{"source":{"path":"/a\tb\u00e9\"\\"}}})")
          .source.path,
      "/a\tb\xc3\xa9\"\\");
}

TEST(ParseModel, ResolvesRelativePathsByTextOnly) {
  const auto path = [](const std::string& written, const std::string& base) {
    const auto result = parse_model(kHead + ("spec: {source: {path: " + written + "}}"), "m.yaml", base);
    return result.ok() ? result->source.path : result.error().message;
  };
  EXPECT_EQ(path("/abs/m.gguf", "/models"), "/abs/m.gguf");
  EXPECT_EQ(path(".//m.gguf", "/models/"), "/models/m.gguf");
  EXPECT_EQ(path("../m.gguf", "/models"), "/models/../m.gguf");
  EXPECT_EQ(path(".hidden", "/"), "/.hidden");
  EXPECT_EQ(path("m.gguf", ""), "m.yaml:4:23: spec.source.path: m.gguf is a relative path; give an absolute one");
}

TEST(ParseModel, ReadsACommand) {
  const std::string text = kHead + std::string("spec: {source: {path: /m}, engine: command, command: [serve, \"{model}\", \"--json={\\\"a\\\":{}}\", "
                                               "\"{host}:{port}\"], readyPath: /v1/models}");
  const auto spec = parse_model(text, "m.yaml", "");
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->engine, EngineKind::command);
  EXPECT_EQ(spec->command, (std::vector<std::string>{"serve", "{model}", R"(--json={"a":{}})", "{host}:{port}"}));
  EXPECT_EQ(spec->ready_path, "/v1/models");
  EXPECT_TRUE(validate(*spec).ok());
  EXPECT_EQ(to_json(*parse_model(to_json(*spec), "", "")), to_json(*spec));
}

TEST(ParseModelErrors, NameWhatACommandLacks) {
  const auto error = [](const std::string& keys) {
    const auto result = parse_model(kHead + ("spec: {source: {path: /m}, engine: command, " + keys + "}"), "m.yaml", "");
    return result.ok() ? std::string() : result.error().message;
  };
  const auto says = [&](const std::string& keys, const std::string& part) {
    EXPECT_NE(error(keys).find(part), std::string::npos) << keys << ": " << error(keys);
  };
  says("readyPath: /x", "m.yaml:4:7: spec: engine: command needs the key command");
  says("command: []", "spec.command: names no program");
  says("command: [a/b, \"{port}\"]", "spec.command: \"a/b\" is no program; give an absolute path, or the name of one in /usr/bin");
  says("command: [serve]", "spec.command: does not say where to listen; pass {port} (and {host}), or {socket}");
  says("command: [serve, \"{port}{socket}\"]", "spec.command: names both {port} and {socket}");
  says("command: [serve, \"{port}\", \"{prot}\"]", "spec.command: {prot} is no placeholder; there are {model}");
  says("command: [serve, \"{port}\"], readyPath: health", "spec.readyPath: \"health\" is no path to ask a server for; write it like /health");
  says("command: [serve, \"{port}\"], readyPath: \"/a b\"", "spec.readyPath: \"/a b\" is no path");
  says("command: [serve, \"{port}\"], enginePath: /x", "spec.enginePath: is not for engine: command");
}

TEST(ParseModelErrors, NameTheSlipOfAKey) {
  EXPECT_EQ(error_of_line("scaling: {idleTimout: 5s}"),
            "m.yaml:6:13: spec.scaling.idleTimout: unknown key; did you mean idleTimeout?");
  EXPECT_EQ(error_of_line("scalign: {}"), "m.yaml:6:3: spec.scalign: unknown key; did you mean scaling?");
  EXPECT_EQ(error_of_line("scaling: {queue: {zzz: 1}}"),
            "m.yaml:6:21: spec.scaling.queue.zzz: unknown key; known here: maxLength, timeout");
}

TEST(ParseModelErrors, NameTheValue) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"engine: tgi", "6:11: spec.engine: \"tgi\" is unknown; known: llama.cpp, vllm, sglang, command"},
      {"engine: vlm", "6:11: spec.engine: \"vlm\" is unknown; did you mean vllm?"},
      {"command: [/bin/serve, \"{port}\"]", "6:12: spec.command: is for engine: command; engine llama.cpp has its own (arguments go into args)"},
      {"readyPath: /x", "6:14: spec.readyPath: is for engine: command; engine llama.cpp has its own (arguments go into args)"},
      {"standby: {weights: gpu}", "6:22: spec.standby.weights: \"gpu\" is unknown; known: auto, host, disk"},
      {"engine: llama.cp", "6:11: spec.engine: \"llama.cp\" is unknown; did you mean llama.cpp?"},
      {"engine: [a]", "6:11: spec.engine: is a list, where one word is expected"},
      {"engine:", "6:3: spec.engine: has no value; give it one or leave the key out"},
      {"enginePath: ''", "6:15: spec.enginePath: is empty; give a path"},
      {"args: -c 512", "6:9: spec.args: must be a list, such as [\"-c\", \"512\"]"},
      {"args: [a, {b: c}]", "6:13: spec.args[1]: is a mapping, where text is expected"},
      {"args: [\"a\\0b\"]", "6:10: spec.args[0]: has the control character \\x00; remove it"},
      {"env: [A=1]", "6:8: spec.env: must be a mapping, such as {LLAMA_ARG_THREADS: \"4\"}"},
      {"env: {1A: x}", "6:9: spec.env.1A: is no name of a variable; use letters, digits and \"_\", no digit first"},
      {"env: {A: x, A: y}", "6:15: spec.env.A: given twice"},
      {"sandbox: none", "6:12: spec.sandbox: \"none\" is unknown; known: runc, runsc"},
      {"resources: {device: gpu}", "6:23: spec.resources.device: \"gpu\" is unknown; did you mean cpu?"},
      {"resources: {deviceMemory: lots}",
       "6:29: spec.resources.deviceMemory: \"lots\" is no size; write it like 64MiB or 2GiB"},
      {"resources: {deviceMemory: 5 MB}",
       "6:29: spec.resources.deviceMemory: \"5 MB\" has the unknown unit \" MB\"; use B, kB, MB, GB, TB, KiB, MiB, GiB "
       "or TiB"},
      {"resources: {deviceMemory: 0}", "6:29: spec.resources.deviceMemory: 0 is out of range; give 1B to 1024TiB"},
      {"resources: {devices: 0, device: cuda}", "6:24: spec.resources.devices: 0 is out of range; give 1 to 64"},
      {"resources: {devices: 65, device: cuda}", "6:24: spec.resources.devices: 65 is out of range; give 1 to 64"},
      {"resources: {devices: 2}",
       "6:24: spec.resources.devices: 2 is more than a node has: it has one cpu device; set resources.device to cuda, or leave devices out"},
      {"priority: urgent", "6:13: spec.priority: \"urgent\" is unknown; known: low, normal, high"},
      {"resources: {cpus: 0}", "6:21: spec.resources.cpus: 0 is out of range; give 0.01 to 4096"},
      {"resources: {cpus: nan}", "6:21: spec.resources.cpus: nan is out of range; give 0.01 to 4096"},
      {"resources: {cpus: 500m}", "6:21: spec.resources.cpus: \"500m\" is not a number; write it like 2 or 0.5"},
      {"resources: {cpus: '2'}", "6:21: spec.resources.cpus: is text, where a number is expected; remove the quotes"},
      {"resources: {hostMemory: {}}",
       "6:27: spec.resources.hostMemory: is a mapping, where a size such as 64MiB is expected"},
      {"scaling: 5",
       "6:12: spec.scaling: is a single value, where a mapping with minReplicas, maxReplicas, targetConcurrency, "
       "idleTimeout, queue is expected"},
      {"scaling: {maxReplicas: 0}", "6:26: spec.scaling.maxReplicas: 0 is out of range; give 1 to 1000"},
      {"scaling: {maxReplicas: -1}", "6:26: spec.scaling.maxReplicas: -1 is out of range; give 1 to 1000"},
      {"scaling: {maxReplicas: 1001}", "6:26: spec.scaling.maxReplicas: 1001 is out of range; give 1 to 1000"},
      {"scaling: {maxReplicas: 99999999999999999999999}",
       "6:26: spec.scaling.maxReplicas: 99999999999999999999999 is out of range; give 1 to 1000"},
      {"scaling: {maxReplicas: two}", "6:26: spec.scaling.maxReplicas: \"two\" is not a whole number"},
      {"scaling: {maxReplicas: 1.0}", "6:26: spec.scaling.maxReplicas: \"1.0\" is not a whole number"},
      {"scaling: {maxReplicas: \"2\"}",
       "6:26: spec.scaling.maxReplicas: is text, where a whole number is expected; remove the quotes"},
      {"scaling: {minReplicas: 3, maxReplicas: 2}",
       "6:26: spec.scaling.minReplicas: 3 is more than maxReplicas, which is 2"},
      {"scaling: {targetConcurrency: 1025}",
       "6:32: spec.scaling.targetConcurrency: 1025 is out of range; give 1 to 1024"},
      {"scaling: {idleTimeout: 5}",
       "6:26: spec.scaling.idleTimeout: \"5\" is no duration; write it like 300ms, 5s, 1m30s or 2h"},
      {"scaling: {idleTimeout: 9000h}", "6:26: spec.scaling.idleTimeout: \"9000h\" is longer than 365 days"},
      {"scaling: {queue: {maxLength: 100001}}",
       "6:32: spec.scaling.queue.maxLength: 100001 is out of range; give 0 to 100000"},
      {"scaling: {queue: {timeout: 2h}}", "6:30: spec.scaling.queue.timeout: 2h is out of range; give 1ms to 1h"},
      {"standby: {mode: sometimes}", "6:19: spec.standby.mode: \"sometimes\" is unknown; known: auto, never, always"},
      {"standby: {timeout: 8761h}", "6:22: spec.standby.timeout: \"8761h\" is longer than 365 days"},
      {"standby: {after: 5s}", "6:13: spec.standby.after: unknown key; known here: mode, timeout, weights"},
      {"snapshot: always", "6:13: spec.snapshot: is a single value, where a mapping with mode is expected"},
      {"startDeadline: 50ms", "6:18: spec.startDeadline: 50ms is out of range; give 100ms to 1h"},
      {"requestTimeout: 25h", "6:19: spec.requestTimeout: 25h is out of range; give 1s to 24h"},
      {"cache: {pin: maybe}", "6:16: spec.cache.pin: \"maybe\" is unknown; known: false, true"},
      {"stallTimeout: 0s", "6:17: spec.stallTimeout: 0s is out of range; give 100ms to 1h"},
      {"source: {path: /other}", "6:3: spec.source: given twice; the first is in line 5"},
  };
  for (const auto& [line, wanted] : cases) EXPECT_EQ(error_of_line(line), "m.yaml:" + wanted) << line;
}

TEST(ParseModelErrors, AcceptTheEndsOfEveryRange) {
  for (const char* line :
       {"scaling: {minReplicas: 0, maxReplicas: 1000, targetConcurrency: 1024, idleTimeout: 0s, "
        "queue: {maxLength: 0, timeout: 1ms}}",
        "scaling: {minReplicas: 1000, maxReplicas: 1000, targetConcurrency: 1, idleTimeout: 8760h, "
        "queue: {maxLength: 100000, timeout: 1h}}",
        "startDeadline: 100ms", "startDeadline: 1h", "requestTimeout: 1s", "requestTimeout: 24h", "stallTimeout: 100ms",
        "stallTimeout: 1h", "standby: {timeout: 0s}", "standby: {mode: auto, timeout: 8760h}", "snapshot: {mode: auto}",
        "resources: {cpus: 0.01}", "resources: {devices: 64, device: cuda}", "priority: high", "cache: {pin: true}", "cache: {}", "args: []", "env: {}"})
    EXPECT_EQ(error_of_line(line), "(no error)") << line;
}

TEST(ParseModelErrors, NameWhatIsMissing) {
  EXPECT_EQ(error("apiVersion: thaw/v1\nkind: Model\n"), "m.yaml:1:1: metadata: missing\nm.yaml:1:1: spec: missing");
  EXPECT_EQ(error("apiVersion: thaw/v1\nkind: Model\nmetadata: {}\nspec:\n  source: {}\n"),
            "m.yaml:3:11: metadata.name: missing\nm.yaml:5:11: spec.source: names no weights; give path, hf or url");
  EXPECT_EQ(
      error(kHead + std::string("spec:\n")),
      "m.yaml:4:1: spec: is nothing, where a mapping with source, base, adapters, aliases, engine, enginePath, image, imageDigest, command, readyPath, args, env, secrets, network, sandbox, parameters, resources, priority, "
      "scaling, cache, standby, snapshot, startDeadline, requestTimeout, stallTimeout is expected");
}

TEST(ParseModelErrors, SayWhichKindOfTextThisIs) {
  EXPECT_EQ(error("{}"),
            "m.yaml:1:1: apiVersion: missing; write apiVersion: thaw/v1\nm.yaml:1:1: kind: missing; write kind: Model");
  EXPECT_EQ(error("apiVersion: thaw/v2\nkind: Model\nspec: {new: 1}\n"),
            "m.yaml:1:13: apiVersion: thaw/v2 is unknown; this thaw reads thaw/v1");
  EXPECT_EQ(error("apiVersion: thaw/v1\nkind: Server\nlisten: :80\n"),
            "m.yaml:2:7: kind: Server is not what belongs here; a Server is for `thaw serve --config FILE`, and Model "
            "is expected");
  EXPECT_EQ(error("apiVersion: v1\nkind: Pod\n"),
            "m.yaml:1:13: apiVersion: v1 is unknown; this thaw reads thaw/v1\nm.yaml:2:7: kind: Pod is unknown; Model "
            "is expected here");
  EXPECT_EQ(
      error("hello"),
      "m.yaml:1:1: the text is a single value, where a mapping with apiVersion: thaw/v1 and kind: Model is expected");
}

TEST(ParseModelErrors, KnowGoodNames) {
  const auto of = [](const std::string& name) {
    return error("apiVersion: thaw/v1\nkind: Model\nmetadata: {name: " + name + "}\nspec: {source: {path: /m}}");
  };
  for (const std::string& name : std::vector<std::string>{"a", "0", "qwen2.5-0.5b_q4", std::string(63, 'a')})
    EXPECT_EQ(of(name), "(no error)") << name;
  for (const std::string& name :
       std::vector<std::string>{"Upper", "-a", "a-", ".a", "a/b", "a b", "\"\"", "\xc3\xa9", std::string(64, 'a')})
    EXPECT_TRUE(of(name).starts_with("m.yaml:3:18: metadata.name: ")) << of(name);
  EXPECT_EQ(of("A"),
            "m.yaml:3:18: metadata.name: \"A\" is no name; use 1 to 63 of a-z, 0-9, \".\", \"_\" and \"-\", a letter "
            "or digit first and last");
}

TEST(ParseModelErrors, AreReportedTogetherInTheOrderOfTheText) {
  EXPECT_EQ(error(kHead + std::string("spec:\n  startDeadline: 1\n  source: {pat: /m}\n  engin: x\n")),
            "m.yaml:5:18: spec.startDeadline: \"1\" is no duration; write it like 300ms, 5s, 1m30s or 2h\n"
            "m.yaml:6:11: spec.source: names no weights; give path, hf or url\n"
            "m.yaml:6:12: spec.source.pat: unknown key; did you mean path?\n"
            "m.yaml:7:3: spec.engin: unknown key; did you mean engine?");
}

TEST(ParseModelErrors, AreBounded) {
  std::string text = kHead + std::string("spec:\n  source: {path: /m}\n");
  for (int i = 0; i < 100; ++i) text += "  zzzzzzz" + std::to_string(i) + ": 1\n";
  const std::string message = error(text);
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 20);
  EXPECT_TRUE(message.ends_with("\nand 80 more")) << message;
}

TEST(Validate, AppliesTheSameRulesInTheSameWords) {
  ModelSpec spec = parse(kWhole);
  EXPECT_TRUE(validate(spec).ok());
  spec.scaling.max_replicas = 0;
  spec.start_deadline = base::Millis(5);
  spec.source.path = "m.gguf";
  EXPECT_EQ(validate(spec).error().message,
            "spec.source.path: m.gguf is a relative path; give an absolute one\n"
            "spec.scaling.maxReplicas: 0 is out of range; give 1 to 1000\n"
            "spec.startDeadline: 5ms is out of range; give 100ms to 1h");
  EXPECT_EQ(validate(ModelSpec{}).error().message.substr(0, 14), "metadata.name:");
}

TEST(Validate, SurvivesWhatNoTextCouldSay) {
  ModelSpec spec = parse(kWhole);
  spec.start_deadline = base::Seconds(-1);
  EXPECT_FALSE(validate(spec).ok());
  spec = parse(kWhole);
  spec.resources.cpus = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(validate(spec).ok());
  spec.resources.cpus = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(validate(spec).ok());
  spec = parse(kWhole);
  spec.args = {std::string("a\0b", 3)};
  EXPECT_EQ(validate(spec).error().message, "spec.args[0]: has the control character \\x00; remove it");
  spec.args = {"\xff"};
  EXPECT_EQ(validate(spec).error().message, "not UTF-8; save the file as UTF-8");
}

}  // namespace
}  // namespace thaw::spec
