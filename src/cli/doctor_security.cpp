#include "cli/doctor_security.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include <fmt/format.h>

#include "net/tls.h"

namespace thaw::cli {
namespace {

namespace fs = std::filesystem;
using node::Finding;
using Level = Finding::Level;

constexpr std::int64_t kDay_s = 24 * 3600;
constexpr std::int64_t kCertificateWarning_s = 14 * kDay_s;
constexpr std::int64_t kAnchorWarning_s = 600;  // behind the log, beyond twice the interval
constexpr mode_t kOthers = 0077;

using Stat = struct stat;
std::optional<Stat> look(const std::string& path) {
  Stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return status;
}

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

Finding listener(const spec::ServerConfig& config) {
  const std::string address = fmt::format("{}:{}", config.listen_host, config.listen_port);
  if (is_loopback(config.listen_host)) return {"listen", Level::ok, address + " speaks plain HTTP, to this machine only", ""};
  return {"listen", Level::failure, address + " speaks plain HTTP to a network: keys, prompts and answers can be read on their way",
          "listen: 127.0.0.1:7420, and serve the network by tls.listen"};
}

void tls(const spec::ServerConfig& config, std::int64_t now_unix_s, std::vector<Finding>& findings) {
  if (!config.tls.on) {
    findings.push_back({"tls", Level::note, "not configured: nothing is served to a network, unless a proxy before it ends TLS", "tls.listen, tls.cert and tls.key, before others than this machine are served (docs/edge.md)"});
    return;
  }
  const auto context = net::TlsContext::load({config.tls.certificate, config.tls.key, config.tls.client_ca});
  if (!context.ok()) {
    findings.push_back({"tls", Level::failure, context.error().message, "mend the files that tls.cert, tls.key and tls.clientCa name"});
  } else {
    const std::int64_t left_s = (*context)->expires_unix_s() - now_unix_s;
    const Level level = left_s < 0 ? Level::failure : left_s < kCertificateWarning_s ? Level::warning : Level::ok;
    findings.push_back({"tls", level,
                        left_s < 0 ? config.tls.certificate + ": the certificate has ended" : fmt::format("{}: valid for {} more days", config.tls.certificate, left_s / kDay_s),
                        level == Level::ok ? "" : "put a new certificate and its key in their place; the server takes them by itself"});
  }
  if (const auto key = look(config.tls.key); key && (key->st_mode & kOthers) != 0)
    findings.push_back({"tls key", Level::failure, fmt::format("{} has mode {:04o}: others than its owner can use it", config.tls.key, key->st_mode & 07777U),
                        "chmod 600 " + config.tls.key});
}

/// Files that others must neither read nor write.
void files(const std::string& data_dir, std::vector<Finding>& findings) {
  const auto directory = look(data_dir);
  if (!directory) {
    findings.push_back({"data", Level::note, data_dir + " is not there yet, or cannot be looked at", "run thaw doctor --security as root, once the server was started"});
    return;
  }
  // 0711 is what the server sets: sandboxed engines pass through it to their sockets.
  constexpr mode_t kReadOrWrite = 0066;
  const std::size_t before = findings.size();
  if ((directory->st_mode & kReadOrWrite) != 0)
    findings.push_back({"data", Level::failure, fmt::format("{} has mode {:04o}: others can look into it", data_dir, directory->st_mode & 07777U), "chmod 711 " + data_dir});
  for (const char* name : {"thaw.db", "thaw.db-wal", "usage.db", "usage.db-wal", "usage.journal", "client.json", "audit", "audit/signing.key"}) {
    const std::string path = data_dir + "/" + name;
    const auto file = look(path);
    if (!file || (file->st_mode & kOthers) == 0) continue;
    const bool is_directory = S_ISDIR(file->st_mode);
    findings.push_back({"data", Level::failure, fmt::format("{} has mode {:04o}: it is not for others", path, file->st_mode & 07777U),
                        fmt::format("chmod {} {}", is_directory ? "700" : "600", path)});
  }
  if (findings.size() == before) findings.push_back({"data", Level::ok, data_dir + ": keys, usage and the audit log are their owner's alone", ""});
}

/// Seconds since 1970 at which the newest file of the log was written; 0: there is none.
std::int64_t last_record_unix_s(const std::string& directory) {
  std::int64_t newest = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const auto file = entry.path().extension() == ".log" ? look(entry.path().string()) : std::nullopt;
    if (file) newest = std::max<std::int64_t>(newest, file->st_mtim.tv_sec);
  }
  return newest;
}

Finding anchors(const spec::ServerConfig& config) {
  const std::string& path = config.audit.export_path;
  if (path.empty())
    return {"audit", Level::warning, "the log's signed heads stay on this machine: who becomes root can write another history",
            "audit.export: a file on a disk that only grows (another host's, WORM, chattr +a), or a pipe to a log collector"};
  const auto file = look(path);
  const std::int64_t last_s = last_record_unix_s(config.data_dir + "/audit");
  if (!file) return {"audit", last_s == 0 ? Level::note : Level::failure, path + " is not there: no head of the audit log is kept elsewhere", "make audit.export reachable; the server's log says what went wrong"};
  if (const auto data = look(config.data_dir); data && S_ISREG(file->st_mode) && data->st_dev == file->st_dev)
    return {"audit", Level::warning, path + " lies on the same file system as the log itself: who can change one can change both", "audit.export: a place that this machine's root cannot rewrite"};
  const std::int64_t behind_s = S_ISREG(file->st_mode) ? last_s - file->st_mtim.tv_sec : 0;
  const std::int64_t allowed_s = kAnchorWarning_s + 2 * base::duration_cast<base::Seconds>(config.audit.export_interval).count();
  if (behind_s > allowed_s)
    return {"audit", Level::failure, fmt::format("{}: the last anchor is {} minutes older than the log", path, behind_s / 60), "make audit.export writable again; the server's log says what went wrong"};
  return {"audit", Level::ok, path + ": the log is anchored", ""};
}

}  // namespace

std::vector<Finding> examine_security(const spec::ServerConfig& config, const std::string& config_path, std::int64_t now_unix_s) {
  std::vector<Finding> findings{listener(config)};
  tls(config, now_unix_s, findings);
  files(config.data_dir, findings);
  findings.push_back(anchors(config));
  if (config.node.sandbox == spec::SandboxKind::none)
    findings.push_back({"sandbox", Level::failure, "engines run unsandboxed, as the server's user, with its files and network", "node.sandbox: runc, or runsc for models of others"});
  constexpr mode_t kOthersWrite = 0022;
  if (const auto file = look(config_path); file && (file->st_mode & kOthersWrite) != 0)
    findings.push_back({"config", Level::failure, fmt::format("{} has mode {:04o}: others can change it", config_path, file->st_mode & 07777U), "chmod go-w " + config_path});
  if (std::find(config.cors_origins.begin(), config.cors_origins.end(), "*") != config.cors_origins.end())
    findings.push_back({"cors", Level::note, "pages of any origin may call /v1/ (with a key of their own)", "name the origins that need it"});
  return findings;
}

}  // namespace thaw::cli
