#include "spec/config_change.h"

#include <functional>

namespace thaw::spec {
namespace {

/// One key: whether two configurations say the same of it, and how the new one is taken.
struct Key {
  std::string name;
  std::function<bool(const ServerConfig&, const ServerConfig&)> same;
  std::function<void(ServerConfig&, const ServerConfig&)> take;  ///< null: only a start can
};

/// `member`: from a configuration to a reference into it.
template <typename Member>
Key at_once(const char* name, Member member) {
  return {name, [member](const ServerConfig& a, const ServerConfig& b) { return member(a) == member(b); },
          [member](ServerConfig& into, const ServerConfig& from) { member(into) = member(from); }};
}

template <typename Member>
Key at_start(const char* name, Member member) {
  return {name, [member](const ServerConfig& a, const ServerConfig& b) { return member(a) == member(b); }, nullptr};
}

#define THAW_MEMBER(path)     \
  [](auto& config) -> auto& { \
    return config.path;       \
  }

const std::vector<Key>& keys() {
  static const std::vector<Key> all{
      {"listen",
       [](const ServerConfig& a, const ServerConfig& b) {
         return a.listen_host == b.listen_host && a.listen_port == b.listen_port;
       },
       nullptr},
      at_start("dataDir", THAW_MEMBER(data_dir)),
      at_once("gateway.maxBodyBytes", THAW_MEMBER(gateway.max_body_bytes)),
      at_once("gateway.maxBufferedBytes", THAW_MEMBER(gateway.max_buffered_bytes)),
      at_once("gateway.maxConnections", THAW_MEMBER(gateway.max_connections)),
      at_once("gateway.headerTimeout", THAW_MEMBER(gateway.header_timeout)),
      at_once("gateway.idleConnectionTimeout", THAW_MEMBER(gateway.idle_connection_timeout)),
      at_once("gateway.drainTimeout", THAW_MEMBER(gateway.drain_timeout)),
      at_once("gateway.streamHold", THAW_MEMBER(gateway.stream_hold)),
      at_once("gateway.minRate", THAW_MEMBER(gateway.min_rate_bytes)),
      {"tls.listen",
       [](const ServerConfig& a, const ServerConfig& b) {
         return a.tls.on == b.tls.on && a.tls.listen_host == b.tls.listen_host &&
                a.tls.listen_port == b.tls.listen_port;
       },
       nullptr},
      at_once("tls.cert", THAW_MEMBER(tls.certificate)),
      at_once("tls.key", THAW_MEMBER(tls.key)),
      at_once("tls.clientCa", THAW_MEMBER(tls.client_ca)),
      at_once("tls.clients", THAW_MEMBER(tls.clients)),
      at_once("cors.origins", THAW_MEMBER(cors_origins)),
      at_start("node.sandbox", THAW_MEMBER(node.sandbox)),
      at_start("node.tenantSandbox", THAW_MEMBER(node.tenant_sandbox)),
      at_start("node.seccomp", THAW_MEMBER(node.seccomp_report)),
      at_start("node.cdi", THAW_MEMBER(node.cdi_required)),
      at_start("node.cdiDirs", THAW_MEMBER(node.cdi_directories)),
      at_start("node.zeroDeviceMemory", THAW_MEMBER(node.zero_device_memory)),
      at_start("node.secretsDir", THAW_MEMBER(node.secrets_dir)),
      at_start("node.pool", THAW_MEMBER(node.pool)),
      at_start("node.maxConcurrentStarts", THAW_MEMBER(node.max_concurrent_starts)),
      at_start("node.stopGrace", THAW_MEMBER(node.stop_grace)),
      at_start("node.diskWriteRate", THAW_MEMBER(node.disk_write_bytes_per_s)),
      at_start("node.logBytes", THAW_MEMBER(node.log_bytes)),
      at_start("node.uidBase", THAW_MEMBER(node.uid_base)),
      at_start("node.hostCache", THAW_MEMBER(node.host_cache_bytes)),
      at_start("node.hostMemory", THAW_MEMBER(node.host_memory_bytes)),
      at_start("node.domain", THAW_MEMBER(node.domain)),
      at_start("node.images.budget", THAW_MEMBER(node.image_budget_bytes)),
      at_start("node.images.criu", THAW_MEMBER(node.criu_path)),
      at_start("node.compileCaches.budget", THAW_MEMBER(node.compile_cache_budget_bytes)),
      at_start("node.containerImages.budget", THAW_MEMBER(node.container_images.budget_bytes)),
      at_start("node.containerImages.maxImage", THAW_MEMBER(node.container_images.max_image_bytes)),
      at_start("node.containerImages.timeout", THAW_MEMBER(node.container_images.timeout)),
      at_start("node.containerImages.policy", THAW_MEMBER(node.container_images.policy_path)),
      at_start("node.containerImages.authFile", THAW_MEMBER(node.container_images.auth_file)),
      at_start("node.containerImages.privateRegistries", THAW_MEMBER(node.container_images.private_registries)),
      at_start("node.containerImages.insecureRegistries", THAW_MEMBER(node.container_images.insecure_registries)),
      at_once("node.containerImages.tenantRegistries", THAW_MEMBER(node.container_images.tenant_registries)),
      at_once("sources.http", THAW_MEMBER(sources.allow_http)),
      at_once("sources.allowPrivate", THAW_MEMBER(sources.allow_private)),
      at_once("sources.hosts", THAW_MEMBER(sources.hosts)),
      at_start("sources.diskBudget", THAW_MEMBER(sources.disk_budget_bytes)),
      at_start("sources.concurrentPulls", THAW_MEMBER(sources.concurrent_pulls)),
      at_once("sources.connections", THAW_MEMBER(sources.connections)),
      at_once("sources.hfEndpoint", THAW_MEMBER(sources.hub_endpoint)),
      at_once("sources.hfTokenFile", THAW_MEMBER(sources.hub_token_file)),
      at_once("sources.proxy", THAW_MEMBER(sources.proxy)),
      at_once("sources.caFile", THAW_MEMBER(sources.ca_file)),
      at_once("audit.reads", THAW_MEMBER(audit.reads)),
      at_start("audit.segmentBytes", THAW_MEMBER(audit.segment_bytes)),
      at_start("audit.retentionDays", THAW_MEMBER(audit.retention_days)),
      at_start("audit.export", THAW_MEMBER(audit.export_path)),
      at_start("audit.exportInterval", THAW_MEMBER(audit.export_interval)),
      at_start("usage.record", THAW_MEMBER(usage.record)),
      at_start("usage.retentionDays", THAW_MEMBER(usage.retention_days)),
      at_start("usage.dailyRetentionDays", THAW_MEMBER(usage.daily_retention_days)),
      at_start("usage.journal", THAW_MEMBER(usage.journal_path)),
      {"usage.prices",
       [](const ServerConfig& a, const ServerConfig& b) {
         const UsagePrices& p = a.usage.prices;
         const UsagePrices& q = b.usage.prices;
         return p.currency == q.currency && p.standard == q.standard && p.models == q.models;
       },
       [](ServerConfig& into, const ServerConfig& from) { into.usage.prices = from.usage.prices; }},
      at_start("auth.oidc.issuer", THAW_MEMBER(oidc.issuer)),
      at_start("auth.oidc.audience", THAW_MEMBER(oidc.audience)),
      at_start("auth.oidc.jwks", THAW_MEMBER(oidc.jwks)),
      at_start("auth.oidc.refresh", THAW_MEMBER(oidc.refresh)),
      at_start("auth.oidc.clockSkew", THAW_MEMBER(oidc.clock_skew)),
      at_start("auth.oidc.claims.tenant", THAW_MEMBER(oidc.tenant_claim)),
      at_start("auth.oidc.claims.role", THAW_MEMBER(oidc.role_claim)),
      at_start("auth.oidc.platform", THAW_MEMBER(oidc.platform)),
      at_start("scaling.idle", THAW_MEMBER(automatic_idle)),
      at_start("devices.cpu.memory", THAW_MEMBER(cpu_memory_bytes)),
      at_start("devices.cuda.reserve", THAW_MEMBER(cuda_reserve_bytes)),
      at_start("engines", THAW_MEMBER(engine_paths)),
      at_once("log.level", THAW_MEMBER(log_level)),
      at_once("log.format", THAW_MEMBER(log_json)),
  };
  return all;
}

#undef THAW_MEMBER

}  // namespace

ConfigChange take_over(ServerConfig& running, const ServerConfig& read) {
  ConfigChange change;
  // Files of a TLS listener that is not there, or is to go, mean nothing without its start.
  const bool tls_stays = running.tls.on == read.tls.on;
  for (const Key& key : keys()) {
    if (key.same(running, read)) continue;
    const bool now = key.take && (tls_stays || !key.name.starts_with("tls."));
    (now ? change.applied : change.needs_restart).push_back(key.name);
    if (now) key.take(running, read);
  }
  return change;
}

std::vector<std::string> compared_keys() {
  std::vector<std::string> names;
  for (const Key& key : keys()) names.push_back(key.name);
  return names;
}

}  // namespace thaw::spec
