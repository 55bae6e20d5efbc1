#include "spec/server_config.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace thaw::spec {
namespace {

std::string error(const std::string& text) {
  const auto result = parse_server_config(text, "s.yaml", {});
  return result.ok() ? "(no error)" : result.error().message;
}

TEST(ServerConfig, DirectoriesOfCdiFilesAreAListOfAbsolutePaths) {
  const auto with = [](const std::string& directories) { return "apiVersion: thaw/v1\nkind: Server\nnode: {cdiDirs: " + directories + "}\n"; };
  EXPECT_EQ(ServerConfig().node.cdi_directories, (std::vector<std::string>{"/etc/cdi", "/var/run/cdi"}));
  const auto config = parse_server_config(with("[/opt/cdi, /run/cdi]"), "s.yaml", {});
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->node.cdi_directories, (std::vector<std::string>{"/opt/cdi", "/run/cdi"}));
  for (const char* wrong : {"/etc/cdi", "[]"}) EXPECT_NE(error(with(wrong)).find("must be a list of directories"), std::string::npos) << wrong;
  EXPECT_NE(error(with("[etc/cdi]")).find("node.cdiDirs[0]"), std::string::npos);
  EXPECT_NE(error(with("[/a, /b, /c, /d, /e, /f, /g, /h, /i]")).find("at most 8"), std::string::npos);
}

TEST(ServerConfig, ReadsEveryKey) {
  const auto config = parse_server_config(R"(apiVersion: thaw/v1
kind: Server
listen: 0.0.0.0:80
dataDir: /data
gateway: {maxBodyBytes: 1MiB, maxBufferedBytes: 2MiB, maxConnections: 10, headerTimeout: 1s, idleConnectionTimeout: 2s,
          drainTimeout: 3s, streamHold: 4s}
node: {sandbox: none, pool: 2, maxConcurrentStarts: 3, stopGrace: 6s, logBytes: 1MiB, uidBase: 100000, hostCache: 12GiB,
       hostMemory: 13GiB}
audit: {reads: true, segmentBytes: 1MiB, retentionDays: 30, export: /mnt/heads, exportInterval: 5s}
devices: {cpu: {memory: 16GiB}, cuda: {reserve: 1GiB}}
engines: {llama.cpp: /opt/llama-server}
log: {level: debug, format: json}
)",
                                          "s.yaml", {});
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->listen_host, "0.0.0.0");
  EXPECT_EQ(config->listen_port, 80);
  EXPECT_EQ(config->data_dir, "/data");
  EXPECT_EQ(config->gateway.max_body_bytes, 1ULL << 20);
  EXPECT_EQ(config->gateway.max_buffered_bytes, 2ULL << 20);
  EXPECT_EQ(config->gateway.max_connections, 10U);
  EXPECT_EQ(config->gateway.header_timeout, base::Seconds(1));
  EXPECT_EQ(config->gateway.idle_connection_timeout, base::Seconds(2));
  EXPECT_EQ(config->gateway.drain_timeout, base::Seconds(3));
  EXPECT_EQ(config->gateway.stream_hold, base::Seconds(4));
  EXPECT_EQ(config->node.sandbox, SandboxKind::none);
  EXPECT_EQ(config->node.pool, 2U);
  EXPECT_EQ(config->node.max_concurrent_starts, 3U);
  EXPECT_EQ(config->node.stop_grace, base::Seconds(6));
  EXPECT_EQ(config->node.log_bytes, 1ULL << 20);
  EXPECT_EQ(config->node.uid_base, 100'000U);
  EXPECT_EQ(config->node.host_cache_bytes, 12ULL << 30);
  EXPECT_EQ(config->node.host_memory_bytes, 13ULL << 30);
  EXPECT_TRUE(config->audit.reads);
  EXPECT_EQ(config->audit.segment_bytes, 1ULL << 20);
  EXPECT_EQ(config->audit.retention_days, 30U);
  EXPECT_EQ(config->audit.export_path, "/mnt/heads");
  EXPECT_EQ(config->audit.export_interval, base::Seconds(5));
  EXPECT_EQ(config->cpu_memory_bytes, 16ULL << 30);
  EXPECT_EQ(config->cuda_reserve_bytes, 1ULL << 30);
  EXPECT_EQ(config->engine_paths.at("llama.cpp"), "/opt/llama-server");
  EXPECT_EQ(config->log_level, "debug");
  EXPECT_TRUE(config->log_json);
}

TEST(ServerConfig, KnowsEachKindOfSandbox) {
  for (const auto kind : {SandboxKind::runc, SandboxKind::runsc, SandboxKind::none}) {
    const auto config = parse_server_config(std::string("node: {sandbox: ") + to_string(kind) + "}", "s.yaml", {});
    ASSERT_TRUE(config.ok()) << config.error().message;
    EXPECT_EQ(config->node.sandbox, kind);
  }
}

TEST(ServerConfig, KeepsDefaultsForAbsentKeys) {
  ServerConfig defaults;
  defaults.data_dir = "/elsewhere";
  defaults.engine_paths["llama.cpp"] = "/found";
  const auto config = parse_server_config("{}", "s.yaml", defaults);
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->data_dir, "/elsewhere");
  EXPECT_EQ(config->engine_paths.at("llama.cpp"), "/found");
  EXPECT_EQ(config->listen_port, 7420);
}

TEST(ServerConfig, TheHostCacheIsASizeOrAuto) {
  ServerConfig defaults;
  defaults.node.host_cache_bytes = 1;
  EXPECT_EQ(parse_server_config("node: {hostCache: auto}", "", defaults)->node.host_cache_bytes, std::nullopt);
  EXPECT_EQ(parse_server_config("node: {hostCache: 0}", "", defaults)->node.host_cache_bytes, 0U);
  EXPECT_FALSE(parse_server_config("{}", "", defaults)->automatic_idle);
  EXPECT_TRUE(parse_server_config("scaling: {idle: auto}", "", defaults)->automatic_idle);
  EXPECT_EQ(parse_server_config("node: {}", "", defaults)->node.host_cache_bytes, 1U);
}

TEST(ServerConfig, AFailureDomainHasAName) {
  EXPECT_EQ(parse_server_config("node: {domain: rack-1.b}", "", ServerConfig())->node.domain, "rack-1.b");
  EXPECT_EQ(parse_server_config("node: {}", "", ServerConfig())->node.domain, "");
  for (const char* bad : {"node: {domain: ''}", "node: {domain: a b}", "node: {domain: a/b}"}) {
    const auto parsed = parse_server_config(bad, "", ServerConfig());
    ASSERT_FALSE(parsed.ok()) << bad;
    EXPECT_NE(parsed.error().message.find("failure domain"), std::string::npos) << parsed.error().message;
  }
}

TEST(ServerConfig, HostMemoryIsASizeOrAuto) {
  ServerConfig defaults;
  defaults.node.host_memory_bytes = 1;
  EXPECT_EQ(parse_server_config("node: {hostMemory: auto}", "", defaults)->node.host_memory_bytes, std::nullopt);
  EXPECT_EQ(parse_server_config("node: {hostMemory: 0}", "", defaults)->node.host_memory_bytes, 0U);
  EXPECT_EQ(parse_server_config("node: {}", "", defaults)->node.host_memory_bytes, 1U);
}

TEST(ServerConfig, NamesProblems) {
  EXPECT_EQ(error("listne: :80"), "s.yaml:1:1: listne: unknown key; did you mean listen?");
  EXPECT_EQ(error("listen: host"),
            "s.yaml:1:9: listen: \"host\" is no address to listen on: the port must be a number from 0 to "
            "65535; write it like 127.0.0.1:7420 or [::1]:7420");
  EXPECT_EQ(error("dataDir: here"), "s.yaml:1:10: dataDir: here is a relative path; give an absolute one");
  EXPECT_EQ(error("dev: true").substr(0, 25), "s.yaml:1:1: dev: unknown ");  // a flag only
  EXPECT_EQ(error("gateway: {maxBodyBytes: 1GiB}"),
            "s.yaml:1:25: gateway.maxBodyBytes: is more than maxBufferedBytes, so that no request of that size could "
            "be taken");
  EXPECT_EQ(error("node: {pool: 65}"), "s.yaml:1:14: node.pool: 65 is out of range; give 0 to 64");
  EXPECT_EQ(error("node: {sandbox: docker}"), "s.yaml:1:17: node.sandbox: \"docker\" is unknown; known: runc, runsc, none");
  EXPECT_EQ(error("node: {hostCache: much}").substr(0, 35), "s.yaml:1:19: node.hostCache: \"much\"");
  EXPECT_EQ(error("node: {hostCache: [1]}").substr(0, 28), "s.yaml:1:19: node.hostCache:");
  EXPECT_EQ(error("node: {hostMemory: half}").substr(0, 36), "s.yaml:1:20: node.hostMemory: \"half\"");
  EXPECT_EQ(error("engines: {llama: /x}"), "s.yaml:1:11: engines.llama: unknown key; known here: llama.cpp, vllm, sglang");
  EXPECT_EQ(error("log: {level: warning}"),
            "s.yaml:1:14: log.level: \"warning\" is unknown; known: debug, info, warn, error");
  EXPECT_EQ(
      error("apiVersion: thaw/v1\nkind: Model\n"),
      "s.yaml:2:7: kind: Model is not what belongs here; a Model is for `thaw deploy FILE`, and Server is expected");
}

TEST(ServerConfig, CertificatesStandForSomebody) {
  const auto with = [](const std::string& clients) {
    return "kind: Server\ntls: {listen: 127.0.0.1:0, cert: /a, key: /b, clientCa: /c, clients: " + clients + "}\n";
  };
  const auto config = parse_server_config(
      with(R"([{subject: "CN=ops,O=Example", role: admin, platform: true}, {subject: CN=app, role: inference, tenant: acme}])"), "s.yaml", {});
  ASSERT_TRUE(config.ok()) << config.error().message;
  const auto& clients = config->tls.clients;
  ASSERT_EQ(clients.size(), 2U);
  EXPECT_EQ(clients[0].subject, "CN=ops,O=Example");
  EXPECT_EQ(clients[0].role, Role::admin);
  EXPECT_EQ(clients[0].tenant.str(), "default");
  EXPECT_TRUE(clients[0].platform);
  EXPECT_EQ(clients[1].role, Role::inference);
  EXPECT_EQ(clients[1].tenant.str(), "acme");
  EXPECT_FALSE(clients[1].platform);
  for (const auto& [clients_text, words] : std::vector<std::pair<std::string, std::string>>{
           {"CN=a", "must be a list"},
           {"[{subject: /CN=a, role: admin}]", "RFC2253"},
           {"[{subject: ops, role: admin}]", "RFC2253"},
           {"[{role: admin}]", "subject"},
           {"[{subject: CN=a}]", "role"},
           {"[{subject: CN=a, role: root}]", "admin"},
           {"[{subject: CN=a, role: admin, tenant: A_B}]", "no tenant's name"},
           {"[{subject: CN=a, role: admin, tenant: acme, platform: true}]", "of the platform and of a tenant"},
           {"[{subject: CN=a, role: admin}, {subject: CN=a, role: read-only}]", "there already"}})
    EXPECT_NE(error(with(clients_text)).find(words), std::string::npos) << error(with(clients_text));
  EXPECT_NE(error("kind: Server\ntls: {listen: 127.0.0.1:0, cert: /a, key: /b, clients: [{subject: CN=a, role: admin}]}\n").find("clientCa"),
            std::string::npos);
}

TEST(ParseListen, TakesEveryForm) {
  const auto parse = [](const char* text) {
    ServerConfig config;
    const auto status = parse_listen(text, config);
    return status.ok() ? config.listen_host + " " + std::to_string(config.listen_port) : status.error().message;
  };
  EXPECT_EQ(parse("10.0.0.1:80"), "10.0.0.1 80");
  EXPECT_EQ(parse("localhost:0"), "localhost 0");
  EXPECT_EQ(parse("[::1]:7421"), "::1 7421");
  EXPECT_EQ(parse("[fe80::1%eth0]:65535"), "fe80::1%eth0 65535");
  EXPECT_EQ(parse(":81"), "127.0.0.1 81");
  EXPECT_EQ(parse("82"), "127.0.0.1 82");
  for (const char* text : {"",        ":",      "host:",  "65536",     "-1",        "1.2.3.4",
                           "::1",     "::1:80", "[::1]",  "[1%:2]:80", "[]:80",     "[host]:80",
                           "[::1:80", "a b:80", "a/b:80", "host:80 ",  "host:0x50", "host:99999999999999999999",
                           "]:1",     "[:1"})
    EXPECT_TRUE(parse(text).ends_with("; write it like 127.0.0.1:7420 or [::1]:7420")) << text << " -> " << parse(text);
}

TEST(ParseListen, LeavesTheConfigAloneWhenItRefuses) {
  ServerConfig config;
  EXPECT_FALSE(parse_listen("other:bad", config).ok());
  EXPECT_EQ(config.listen_host, "127.0.0.1");
  EXPECT_EQ(config.listen_port, 7420);
}

}  // namespace
}  // namespace thaw::spec
