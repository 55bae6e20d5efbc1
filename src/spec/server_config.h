#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/tenancy.h"
#include "base/time.h"
#include "spec/role.h"
#include "spec/sandbox_kind.h"
#include "spec/usage_prices.h"

namespace thaw::spec {

/// `thaw serve --config FILE`: everything an operator can set. Every key is optional; a flag on the command line wins.
///
///     apiVersion: thaw/v1
///     kind: Server
///     listen: 127.0.0.1:7420
///     dataDir: /var/lib/thaw
///     gateway: {maxBodyBytes: 32MiB, maxBufferedBytes: 512MiB, maxConnections: 10000, headerTimeout: 10s, idleConnectionTimeout: 75s,
///               drainTimeout: 30s, streamHold: 3s, minRate: 1KiB}
///     node: {sandbox: runc, tenantSandbox: runsc, seccomp: enforce, cdi: auto, zeroDeviceMemory: true, secretsDir: /etc/thaw/secrets, pool: 1,
///            maxConcurrentStarts: 16, stopGrace: 5s, diskWriteRate: 128MiB, logBytes: 8MiB, uidBase: 524288, hostCache: auto, hostMemory: auto, domain: rack1,
///            images: {budget: 16GiB}, compileCaches: {budget: 8GiB},
///            containerImages: {budget: 64GiB, maxImage: 32GiB, timeout: 30m, policy: /etc/containers/policy.json,
///                              authFile: /etc/thaw/registries.json, privateRegistries: [registry.lan:5000], insecureRegistries: [localhost:5000]}}
///     tls: {listen: 0.0.0.0:7443, cert: /etc/thaw/tls.crt, key: /etc/thaw/tls.key, clientCa: /etc/thaw/clients.crt,
///           clients: [{subject: "CN=ops,O=Example", role: admin, platform: true}, {subject: CN=app, role: inference, tenant: acme}]}
///     cors: {origins: [https://chat.example.com]}
///     audit: {reads: false, segmentBytes: 8MiB, retentionDays: 400, export: /mnt/worm/heads.jsonl, exportInterval: 1m}
///     usage: {record: true, retentionDays: 90, dailyRetentionDays: 1100, journal: /var/lib/thaw/usage.journal,
///             prices: {currency: EUR, deviceSecond: 0.0004, promptTokens1k: 0.0001, completionTokens1k: 0.0002, models: {big: {deviceSecond: 0.002}}}}
///     sources: {http: false, allowPrivate: false, hosts: [models.corp.example], diskBudget: 200GiB, concurrentPulls: 2, connections: 8,
///               hfEndpoint: https://huggingface.co, hfTokenFile: /etc/thaw/hf-token, proxy: http://proxy:3128, caFile: /etc/thaw/ca.pem}
///     auth: {oidc: {issuer: https://id.example.com, audience: thaw, jwks: https://id.example.com/jwks.json, refresh: 5m, clockSkew: 1m,
///                   claims: {tenant: tenant, role: role}, platform: false}}
///     scaling: {idle: timeout}
///     devices: {cpu: {memory: 16GiB}, cuda: {reserve: 512MiB}}
///     engines: {llama.cpp: /opt/llama/llama-server, vllm: /opt/vllm/bin/vllm, sglang: /opt/sglang/bin/python3}
///     log: {level: info, format: text}
struct ServerConfig {
  std::string listen_host = "127.0.0.1";
  std::uint16_t listen_port = 7420;  ///< 0: a free one, printed
  std::string data_dir = "/var/lib/thaw";
  bool dev = false;  ///< only by flag: no API key asked for, loopback only

  struct Gateway {
    std::uint64_t max_body_bytes = 32ULL << 20;       ///< one request's body; more is 413
    std::uint64_t max_buffered_bytes = 512ULL << 20;  ///< all bodies held at once; more is 503
    std::uint32_t max_connections = 10'000;
    base::Duration header_timeout = base::Seconds(10);            ///< from the first byte of a request to its last header byte
    base::Duration idle_connection_timeout = base::Seconds(75);
    base::Duration drain_timeout = base::Seconds(30);             ///< SIGTERM: how long running requests may take
    base::Duration stream_hold = base::Seconds(3);                ///< a waiting stream gets no headers before this
    std::uint64_t min_rate_bytes = 1024;                          ///< a second: slower bodies and readers are cut, after a minute's grace; 0: none
  } gateway;

  /// A second listener, which speaks TLS; `listen` stays plain, for this machine.
  struct Tls {
    bool on = false;
    std::string listen_host;
    std::uint16_t listen_port = 0;
    std::string certificate, key;  ///< PEM files
    std::string client_ca;         ///< PEM file; clients need a certificate by it; empty: they need none

    /// Whose certificate needs no key.
    struct Client {
      std::string subject;  ///< as RFC 2253 writes it: "CN=ops,O=Example"
      Role role = Role::read_only;
      base::TenantName tenant{std::string(base::kDefaultTenant)};
      bool platform = false;  ///< not its tenant's alone; of the default tenant only

      bool operator==(const Client&) const = default;
    };
    std::vector<Client> clients;
  } tls;

  std::vector<std::string> cors_origins;  ///< pages of which may call /v1/ from a browser; "*": any

  struct Node {
    SandboxKind sandbox = SandboxKind::runc;
    SandboxKind tenant_sandbox = SandboxKind::runsc;  ///< of models that are not the operator's (spec/trust.h); never weaker than `sandbox`
    bool seccomp_report = false;              ///< what the filter of system calls refuses is told in the log
    bool cdi_required = false;                ///< GPUs only as CDI files declare them
    std::vector<std::string> cdi_directories{"/etc/cdi", "/var/run/cdi"};  ///< where CDI files are, 1 to 8; the last goes first
    bool zero_device_memory = true;           ///< a GPU's free memory is written over before another tenant's model gets it
    std::string secrets_dir = "/etc/thaw/secrets";  ///< where the files of models' secrets are; of tenants in a directory of their name
    std::uint32_t pool = 1;                   ///< pre-created empty sandboxes, 0 to 64
    std::uint32_t max_concurrent_starts = 16;  ///< 1 to 256
    base::Duration stop_grace = base::Seconds(5);  ///< from SIGTERM to SIGKILL
    std::uint64_t disk_write_bytes_per_s = 128ULL << 20;  ///< of each engine, to the disk of its compile cache; 0: no limit. More than a compiler writes for long
    std::uint64_t log_bytes = 8ULL << 20;     ///< kept per model, over all rotated files
    std::uint32_t uid_base = 524'288;         ///< first host uid of the range that sandboxes are mapped to
    /// Weights kept in the page cache at most; absent (auto): what instances leave of the CPU device's budget.
    std::optional<std::uint64_t> host_cache_bytes;
    /// Host memory that instances on GPUs hold together at most, running and in standby; absent (auto): half of what
    /// instances may have of it.
    std::optional<std::uint64_t> host_memory_bytes;
    std::uint64_t compile_cache_budget_bytes = 8ULL << 30;  ///< disk that engines' compile caches may take together; 0: none are kept
    std::string domain;  ///< what fails together with this machine ("rack1"); replicas are spread over domains. Empty: the machine is its own
    std::uint64_t image_budget_bytes = 16ULL << 30;  ///< disk that images of initialised engines may take together
    /// Container images as roots of engines (spec.image): docs/images.md.
    struct ContainerImages {
      std::uint64_t budget_bytes = 64ULL << 30;     ///< disk that unpacked layers and images under way may take together; 0: no images
      std::uint64_t max_image_bytes = 32ULL << 30;  ///< of one image, fetched and unpacked
      base::Duration timeout = base::Seconds(1800);  ///< to fetch and unpack one
      std::string policy_path;                       ///< containers-policy.json(5): whose signatures are asked for; empty: nobody's
      std::string auth_file;                         ///< containers-auth.json(5): credentials of registries; empty: none
      std::vector<std::string> private_registries;   ///< "host" or "host:port", which may have private or link-local addresses
      std::vector<std::string> tenant_registries;    ///< the same: from which tenants may fetch; for who runs the platform there is no such list
      std::vector<std::string> insecure_registries;  ///< "host" or "host:port", asked without TLS or without checking its certificate; private too
    } container_images;
    std::string criu_path;  ///< criu, for images of models under runc; empty: looked for as other programs are
  } node;

  struct Audit {
    bool reads = false;                               ///< also what was only read by the admin API
    std::uint64_t segment_bytes = 8ULL << 20;         ///< a file that has got so long is sealed, and the next one begun
    std::uint32_t retention_days = 400;               ///< sealed files whose last record is older are removed
    std::string export_path;                          ///< signed heads are appended to it; empty: none
    base::Duration export_interval = base::Seconds(60);
  } audit;

  /// What requests used: docs/usage.md.
  struct Usage {
    bool record = true;
    std::uint32_t retention_days = 90;          ///< rows, one a request, that are older are removed
    std::uint32_t daily_retention_days = 1100;  ///< ... and sums by day
    std::string journal_path;                   ///< empty: <dataDir>/usage.journal
    UsagePrices prices;
  } usage;
  /// What models are pulled from, and where to (docs/sources.md).
  struct Sources {
    bool allow_http = false;              ///< http: true. Else only https
    bool allow_private = false;           ///< allowPrivate: true. Else no address of a private network, of this machine or of its link is connected to
    std::vector<std::string> hosts{};     ///< that may have such addresses all the same; lower case
    std::optional<std::uint64_t> disk_budget_bytes{};  ///< that what was pulled may take; absent (auto): what the disk has
    std::uint32_t concurrent_pulls = 2;   ///< 1 to 16; more wait
    std::uint32_t connections = 8;        ///< of one pull, 1 to 32
    std::string hub_endpoint{};           ///< of hf sources; empty: HF_ENDPOINT, else https://huggingface.co
    std::string hub_token_file{};         ///< holds the token; empty: HF_TOKEN
    std::string proxy{};                  ///< http://host:port that all is fetched through; empty: none
    std::string ca_file{};                ///< certificates that are trusted instead of the system's; empty: the system's
  } sources;

  /// Tokens of an identity provider beside the API keys (docs/tenants.md). Of effect when `issuer` is set.
  struct Oidc {
    std::string issuer;                            ///< "iss" of every token, letter by letter
    std::string audience;                          ///< one of a token's "aud"
    std::string jwks;                              ///< the provider's public keys: an absolute path, or an https URL (http for this machine)
    base::Duration refresh = base::Seconds(300);   ///< they are read anew so often; a key that is not known has it done at once
    base::Duration clock_skew = base::Seconds(60); ///< of exp and nbf
    std::string tenant_claim = "tenant";
    std::string role_claim = "role";
    bool platform = false;                         ///< roles "platform-admin" and "platform-read-only" are believed
  } oidc;

  /// scaling.idle: auto. Idle replicas rest as pauses and costs of waking say, at the latest after their model's idleTimeout.
  bool automatic_idle = false;

  std::optional<std::uint64_t> cpu_memory_bytes;       ///< budget of the CPU device; absent: 80% of the host's memory, with GPUs less (node/device/devices.h)
  std::uint64_t cuda_reserve_bytes = 512ULL << 20;     ///< left free on each CUDA device
  std::map<std::string, std::string> engine_paths;     ///< by engine name as in a spec
  std::string log_level = "info";                      ///< debug, info, warn, error
  bool log_json = false;
};

/// Same strictness and error form as parse_model. Keys that are absent keep `defaults`.
base::Result<ServerConfig> parse_server_config(std::string_view text, const std::string& file, ServerConfig defaults);

/// "127.0.0.1:7420", "[::1]:7420", ":7420", "7420" -> host and port. Without a host the one in `config` stays: a port alone
/// never opens a server to the network. `config` is unchanged on an error.
base::Status parse_listen(std::string_view text, ServerConfig& config);

}  // namespace thaw::spec
