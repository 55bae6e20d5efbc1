#include <algorithm>
#include <charconv>
#include <limits>

#include <fmt/format.h>

#include "spec/fields.h"
#include "spec/image_ref.h"
#include "spec/model_spec.h"
#include "spec/parse_tls_clients.h"
#include "spec/schema.h"
#include "spec/server_config.h"
#include "spec/usage_prices.h"
#include "spec/source_ref.h"

namespace thaw::spec {
namespace {

using base::Millis;
using base::Seconds;
using std::chrono::hours;
using std::chrono::minutes;

constexpr std::uint64_t kKiB = 1ULL << 10;
constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint64_t kMaxMemory = 1ULL << 50;

constexpr std::size_t kMaxRegistries = 64;
constexpr std::size_t kMaxCdiDirectories = 8;
constexpr std::uint32_t kMinUid = 65'536;  // below are the host's own users
constexpr std::uint32_t kMaxUid = 4'000'000'000;

void read_listen(const Cursor& at, ServerConfig& into) {
  std::string listen;
  if (!read_text(at, listen)) return;
  if (const auto status = parse_listen(listen, into); !status) at.refuse(status.error().message);
}

const Table<ServerConfig::Gateway>& gateway_table() {
  using Gateway = ServerConfig::Gateway;
  static const Table<Gateway> table{
      bytes("maxBodyBytes", &Gateway::max_body_bytes, kKiB, 4 * kGiB),
      bytes("maxBufferedBytes", &Gateway::max_buffered_bytes, kKiB, 1024 * kGiB),
      whole("maxConnections", &Gateway::max_connections, 1, 1'000'000),
      duration("headerTimeout", &Gateway::header_timeout, Millis(100), minutes(10)),
      duration("idleConnectionTimeout", &Gateway::idle_connection_timeout, Millis(100), hours(1)),
      duration("drainTimeout", &Gateway::drain_timeout, Seconds(0), hours(1)),
      duration("streamHold", &Gateway::stream_hold, Seconds(0), minutes(1)),
      bytes("minRate", &Gateway::min_rate_bytes, 0, kMiB)};
  return table;
}

void read_gateway(const Cursor& at, ServerConfig& into) {
  read_table(at, gateway_table(), into.gateway);
  if (into.gateway.max_body_bytes > into.gateway.max_buffered_bytes)
    at.at("maxBodyBytes").refuse("is more than maxBufferedBytes, so that no request of that size could be taken");
}

void read_tls_listen(const Cursor& at, ServerConfig::Tls& into) {
  std::string listen;
  if (!read_text(at, listen)) return;
  ServerConfig address;
  address.listen_host.clear();
  if (const auto status = parse_listen(listen, address); !status) return at.refuse(status.error().message);
  if (address.listen_host.empty()) return at.refuse("needs an address too, like 0.0.0.0:7443");
  into.listen_host = address.listen_host;
  into.listen_port = address.listen_port;
}

const Table<ServerConfig::Tls>& tls_table() {
  using Tls = ServerConfig::Tls;
  static const Table<Tls> table{required<Tls>({"listen", read_tls_listen, false, shapes::text()}), required(path("cert", &Tls::certificate, "")),
                                required(path("key", &Tls::key, "")), path("clientCa", &Tls::client_ca, ""),
                                {"clients", read_tls_clients, false, tls_clients_shape()}};
  return table;
}

void read_tls(const Cursor& at, ServerConfig& into) {
  into.tls.on = true;
  read_table(at, tls_table(), into.tls);
  if (!into.tls.clients.empty() && into.tls.client_ca.empty()) at.at("clients").refuse("needs clientCa: without it no client is asked for a certificate");
}

constexpr std::size_t kMaxOrigins = 64;

/// "https://chat.example.com:8443", as a browser writes it in Origin: no path, no slash at the end.
bool is_origin(std::string_view text) {
  if (text == "*") return true;
  const auto scheme = text.find("://");
  if (scheme == std::string_view::npos || (text.substr(0, scheme) != "https" && text.substr(0, scheme) != "http")) return false;
  const std::string_view host = text.substr(scheme + 3);
  return !host.empty() && host.size() <= 256 &&
         host.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-:[]") == std::string_view::npos;
}

void read_origins(const Cursor& at, ServerConfig& into) {
  if (at.value.kind != YamlValue::Kind::sequence || at.value.items.size() > kMaxOrigins)
    return at.refuse("must be a list of at most 64 origins, such as [https://chat.example.com]");
  into.cors_origins.clear();
  for (const YamlValue& item : at.value.items) {
    std::string origin;
    const Cursor one{item, at.path, at.problems};
    if (!read_text(one, origin)) continue;
    if (!is_origin(origin)) one.refuse("must be an origin as browsers write it: https://HOST or https://HOST:PORT in lower case, without a path; or \"*\"");
    else into.cors_origins.push_back(std::move(origin));
  }
}

/// A size of host memory, or "auto".
template <std::optional<std::uint64_t> ServerConfig::Node::*Member>
void read_size_or_auto(const Cursor& at, ServerConfig::Node& into) {
  std::uint64_t size = 0;
  if (at.value.kind == YamlValue::Kind::scalar && at.value.text == "auto")
    (into.*Member).reset();
  else if (read_bytes(at, 0, kMaxMemory, size))
    into.*Member = size;
}

std::string size_or_auto_shape() { return shapes::either({shapes::bytes(0, kMaxMemory), shapes::constant("auto")}); }

void read_domain(const Cursor& at, ServerConfig::Node& into) {
  constexpr std::size_t kMaxDomain = 63;  // wire::kMaxDomain
  std::string domain;
  if (!read_text(at, domain)) return;
  const bool right = !domain.empty() && domain.size() <= kMaxDomain && std::all_of(domain.begin(), domain.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  });
  if (right)
    into.domain = domain;
  else
    at.refuse(fmt::format("\"{}\" is no name of a failure domain; use 1 to {} letters, digits, \".\", \"_\" and \"-\", such as rack1", printable(domain),
                          kMaxDomain));
}

void read_cdi_directories(const Cursor& at, ServerConfig::Node& into) {
  into.cdi_directories.clear();
  read_items(at, {"directories", "[/etc/cdi]", kMaxCdiDirectories}, [&into](const Cursor& item) {
    std::string directory;
    if (read_path(item, "", directory)) into.cdi_directories.push_back(std::move(directory));
  });
  if (at.value.kind == YamlValue::Kind::sequence && at.value.items.empty()) at.refuse("must be a list of directories, one at least");
}

/// "host" or "host:port".
template <std::vector<std::string> ServerConfig::Node::ContainerImages::*Member>
void read_registries(const Cursor& at, ServerConfig::Node::ContainerImages& into) {
  (into.*Member).clear();
  read_items(at, {"registries", "[registry.lan:5000]", kMaxRegistries}, [&into](const Cursor& item) {
    std::string host;
    if (!read_text(item, host)) return;
    if (const auto ref = parse_image_ref("docker://" + host + "/x", ""); !ref.ok() || host.find('/') != std::string::npos)
      item.refuse(fmt::format("\"{}\" is no registry; write its host, or host:port, such as registry.lan:5000", printable(host)));
    else
      (into.*Member).push_back(host);
  });
}

Table<ServerConfig::Node::ContainerImages> container_images_table() {
  using Images = ServerConfig::Node::ContainerImages;
  const std::string registries = shapes::list(shapes::text(), kMaxRegistries);
  return {bytes("budget", &Images::budget_bytes, 0, kMaxMemory),
          bytes("maxImage", &Images::max_image_bytes, kMiB, kMaxMemory),
          duration("timeout", &Images::timeout, Seconds(1), hours(24)),
          path("policy", &Images::policy_path, ""),
          path("authFile", &Images::auth_file, ""),
          {"privateRegistries", read_registries<&Images::private_registries>, false, registries},
          {"tenantRegistries", read_registries<&Images::tenant_registries>, false, registries},
          {"insecureRegistries", read_registries<&Images::insecure_registries>, false, registries}};
}

Table<ServerConfig::Node> node_table() {
  using Node = ServerConfig::Node;
  return {choice<Node, SandboxKind>(
              "sandbox", &Node::sandbox,
              {{to_string(SandboxKind::runc), SandboxKind::runc},
               {to_string(SandboxKind::runsc), SandboxKind::runsc},
               {to_string(SandboxKind::none), SandboxKind::none}}),
          choice<Node, SandboxKind>(
              "tenantSandbox", &Node::tenant_sandbox,
              {{to_string(SandboxKind::runc), SandboxKind::runc}, {to_string(SandboxKind::runsc), SandboxKind::runsc}}),
          choice<Node, bool>("seccomp", &Node::seccomp_report, {{"enforce", false}, {"report", true}}),
          choice<Node, bool>("cdi", &Node::cdi_required, {{"auto", false}, {"required", true}}),
          {"cdiDirs", read_cdi_directories, false, shapes::list(shapes::text(), kMaxCdiDirectories)},
          choice<Node, bool>("zeroDeviceMemory", &Node::zero_device_memory, {{"true", true}, {"false", false}}),
          path("secretsDir", &Node::secrets_dir, ""),
          whole("pool", &Node::pool, 0, 64),
          whole("maxConcurrentStarts", &Node::max_concurrent_starts, 1, 256),
          duration("stopGrace", &Node::stop_grace, Seconds(0), minutes(5)),
          bytes("diskWriteRate", &Node::disk_write_bytes_per_s, 0, kMaxMemory),
          bytes("logBytes", &Node::log_bytes, 64 * kKiB, 1024 * kGiB),
          whole("uidBase", &Node::uid_base, kMinUid, kMaxUid),
          {"hostCache", read_size_or_auto<&Node::host_cache_bytes>, false, size_or_auto_shape()},
          {"hostMemory", read_size_or_auto<&Node::host_memory_bytes>, false, size_or_auto_shape()},
          {"domain", read_domain, false, shapes::text()},
          group<Node>("images", {bytes("budget", &Node::image_budget_bytes, 0, kMaxMemory), path("criu", &Node::criu_path, "")}),
          group<Node>("compileCaches", {bytes("budget", &Node::compile_cache_budget_bytes, 0, kMaxMemory)}),
          nested("containerImages", &Node::container_images, container_images_table())};
}

Table<ServerConfig::Audit> audit_table() {
  using Audit = ServerConfig::Audit;
  return {choice<Audit, bool>("reads", &Audit::reads, {{"false", false}, {"true", true}}),
          bytes("segmentBytes", &Audit::segment_bytes, 64 * kKiB, kGiB),
          whole("retentionDays", &Audit::retention_days, 1, 36'500),
          path("export", &Audit::export_path, ""),
          duration("exportInterval", &Audit::export_interval, Millis(100), hours(24))};
}

Table<ServerConfig::Usage> usage_table() {
  using Usage = ServerConfig::Usage;
  return {choice<Usage, bool>("record", &Usage::record, {{"true", true}, {"false", false}}),
          whole("retentionDays", &Usage::retention_days, 1, 36'500),
          whole("dailyRetentionDays", &Usage::daily_retention_days, 1, 36'500),
          path("journal", &Usage::journal_path, ""),
          {"prices", [](const Cursor& at, Usage& into) { read_prices(at, into.prices); }}};
}

constexpr std::size_t kMaxPrivateHosts = 256;

void read_hosts(const Cursor& at, ServerConfig::Sources& into) {
  into.hosts.clear();
  read_items(at, {"host names", "[models.corp.example]", kMaxPrivateHosts}, [&into](const Cursor& item) {
    std::string host;
    if (!read_text(item, host)) return;
    const auto url = parse_url("https://" + (host.find(':') == std::string::npos ? host : "[" + host + "]"));
    if (!url.ok() || url->path != "/" || host.find('/') != std::string::npos) {
      item.refuse(fmt::format("\"{}\" is no host; give a name or an address without scheme and port", printable(host)));
      return;
    }
    into.hosts.push_back(url->host);
  });
}

template <std::string ServerConfig::Sources::*Member>
void read_origin(const Cursor& at, ServerConfig::Sources& into) {
  std::string text;
  if (!read_text(at, text)) return;
  const auto url = parse_url(text);
  if (!url.ok()) return at.refuse(url.error().message);
  into.*Member = text;
  while ((into.*Member).ends_with('/')) (into.*Member).pop_back();
}

void read_disk_budget(const Cursor& at, ServerConfig::Sources& into) {
  std::uint64_t size = 0;
  if (at.value.kind == YamlValue::Kind::scalar && at.value.text == "auto")
    into.disk_budget_bytes.reset();
  else if (read_bytes(at, 0, kMaxMemory, size))
    into.disk_budget_bytes = size;
}

Table<ServerConfig::Sources> sources_table() {
  using Sources = ServerConfig::Sources;
  return {choice<Sources, bool>("http", &Sources::allow_http, {{"false", false}, {"true", true}}),
          choice<Sources, bool>("allowPrivate", &Sources::allow_private, {{"false", false}, {"true", true}}),
          {"hosts", read_hosts, false, shapes::list(shapes::text(), kMaxPrivateHosts)},
          {"diskBudget", read_disk_budget, false, size_or_auto_shape()},
          whole("concurrentPulls", &Sources::concurrent_pulls, 1, 16),
          whole("connections", &Sources::connections, 1, 32),
          {"hfEndpoint", read_origin<&Sources::hub_endpoint>, false, shapes::text()},
          path("hfTokenFile", &Sources::hub_token_file, ""),
          {"proxy", read_origin<&Sources::proxy>, false, shapes::text()},
          path("caFile", &Sources::ca_file, "")};
}

void read_jwks(const Cursor& at, ServerConfig::Oidc& into) {
  std::string place;
  if (!read_text(at, place)) return;
  const auto here = [&](std::string_view host) {
    return place.starts_with("http://" + std::string(host) + ":") || place.starts_with("http://" + std::string(host) + "/");
  };
  if (place.starts_with("https://") || place.starts_with("/") || here("127.0.0.1") || here("localhost") || here("[::1]"))
    into.jwks = place;
  else
    at.refuse(fmt::format("\"{}\" is no absolute path and no https:// URL (http:// is for this machine only): who can change these keys can "
                          "make tokens",
                          printable(place)));
}

const Table<ServerConfig::Oidc>& oidc_table() {
  using Oidc = ServerConfig::Oidc;
  static const Table<Oidc> table{
      required(text("issuer", &Oidc::issuer)),
      required(text("audience", &Oidc::audience)),
      required<Oidc>({"jwks", read_jwks, false, shapes::text()}),
      duration("refresh", &Oidc::refresh, Seconds(10), hours(24)),
      duration("clockSkew", &Oidc::clock_skew, Seconds(0), minutes(10)),
      group<Oidc>("claims", {text("tenant", &Oidc::tenant_claim), text("role", &Oidc::role_claim)}),
      choice<Oidc, bool>("platform", &Oidc::platform, {{"false", false}, {"true", true}})};
  return table;
}

void read_oidc(const Cursor& at, ServerConfig& into) {
  read_table(at, oidc_table(), into.oidc);
  if (into.oidc.issuer.empty() || into.oidc.audience.empty()) at.refuse("issuer and audience may not be empty: they say for whom a token was made");
}

Table<ServerConfig> devices_table() {
  return {group<ServerConfig>("cpu", {bytes("memory", &ServerConfig::cpu_memory_bytes, kMiB, kMaxMemory)}),
          group<ServerConfig>("cuda", {bytes("reserve", &ServerConfig::cuda_reserve_bytes, 0, kMaxMemory)})};
}

Table<ServerConfig> engines_table() {
  Table<ServerConfig> table;
  for (const EngineKind kind : {EngineKind::llama_cpp, EngineKind::vllm, EngineKind::sglang}) {
    const std::string name = to_string(kind);
    table.push_back({name, [name](const Cursor& at, ServerConfig& into) { read_path(at, "", into.engine_paths[name]); }, false, shapes::text()});
  }
  return table;
}

Table<ServerConfig> server_table() {
  Table<ServerConfig> table = header_fields<ServerConfig>("Server", false);
  table.push_back({"listen", read_listen, false, shapes::text()});
  table.push_back(path("dataDir", &ServerConfig::data_dir, ""));
  table.push_back({"gateway", read_gateway, false, shape_of(gateway_table())});
  table.push_back({"tls", read_tls, false, shape_of(tls_table())});
  table.push_back(group<ServerConfig>("cors", {{"origins", read_origins, false, shapes::list(shapes::text(), kMaxOrigins)}}));
  table.push_back(nested("node", &ServerConfig::node, node_table()));
  table.push_back(nested("sources", &ServerConfig::sources, sources_table()));
  table.push_back(nested("audit", &ServerConfig::audit, audit_table()));
  table.push_back(nested("usage", &ServerConfig::usage, usage_table()));
  table.push_back(group<ServerConfig>("auth", {{"oidc", read_oidc, false, shape_of(oidc_table())}}));
  table.push_back(group<ServerConfig>(
      "scaling", {choice<ServerConfig, bool>("idle", &ServerConfig::automatic_idle, {{"timeout", false}, {"auto", true}})}));
  table.push_back(group("devices", devices_table()));
  table.push_back(group("engines", engines_table()));
  table.push_back(group<ServerConfig>(
      "log",
      {choice<ServerConfig, std::string>("level", &ServerConfig::log_level,
                                         {{"debug", "debug"}, {"info", "info"}, {"warn", "warn"}, {"error", "error"}}),
       choice<ServerConfig, bool>("format", &ServerConfig::log_json, {{"text", false}, {"json", true}})}));
  return table;
}

bool parse_port(std::string_view text, std::uint16_t& port) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number > std::numeric_limits<std::uint16_t>::max())
    return false;
  port = static_cast<std::uint16_t>(number);
  return true;
}

bool only(std::string_view text, std::string_view allowed) {
  return text.find_first_not_of(allowed) == std::string_view::npos;
}

}  // namespace

const char* to_string(SandboxKind kind) {
  switch (kind) {
    case SandboxKind::runc:
      return "runc";
    case SandboxKind::runsc:
      return "runsc";
    case SandboxKind::none:
      return "none";
  }
  return "runc";
}

std::string server_schema() { return shapes::document("A thaw server's configuration", shape_of(server_table())); }

base::Result<ServerConfig> parse_server_config(std::string_view text, const std::string& file, ServerConfig defaults) {
  Problems problems;
  if (const auto root = read_yaml(text, problems)) {
    const Cursor at{*root, "", problems};
    if (read_header(at, "Server", false)) read_table(at, server_table(), defaults);
  }
  if (!problems.empty()) return problems.to_error(file);
  return defaults;
}

base::Status parse_listen(std::string_view text, ServerConfig& config) {
  constexpr std::string_view kHostCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_%";
  constexpr std::string_view kIpv6Characters = "0123456789abcdefABCDEF:.";
  const auto wrong = [&](const char* why) {
    return base::Error{base::ErrorKind::invalid,
                       fmt::format("\"{}\" is no address to listen on: {}; write it like 127.0.0.1:7420 or [::1]:7420",
                                   printable(text), why)};
  };
  const std::size_t colon = text.rfind(':');
  std::string_view port = text;
  std::string_view host;
  if (colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  if (host.starts_with('[')) {
    if (!host.ends_with(']') || host.size() < 4)
      return wrong("the brackets hold no IPv6 address and a port after them");
    host = host.substr(1, host.size() - 2);
    const std::size_t zone = std::min(host.find('%'), host.size());  // "fe80::1%eth0"
    if (!only(host.substr(0, zone), kIpv6Characters) || host.find(':') >= zone ||
        !only(host.substr(zone), kHostCharacters))
      return wrong("the brackets hold no IPv6 address");
  } else if (host.find(':') != std::string_view::npos) {
    return wrong("an IPv6 address stands in brackets");
  } else if (!only(host, kHostCharacters)) {
    return wrong("the host has a character that no host has");
  }
  std::uint16_t number = 0;
  if (!parse_port(port, number)) return wrong("the port must be a number from 0 to 65535");
  config.listen_port = number;
  if (!host.empty()) config.listen_host = std::string(host);
  return {};
}

}  // namespace thaw::spec
