#include "gateway/tls_front.h"

#include <sys/stat.h>

#include <spdlog/spdlog.h>

#include <ctime>
#include <utility>

#include "net/loop.h"

namespace thaw::gateway {
namespace {

constexpr base::Duration kLookInterval = base::Seconds(1);
constexpr std::int64_t kWarnBefore_s = 14LL * 24 * 3600;

void look_at(const std::string& path, std::int64_t& mtime_ns, std::uint64_t& inode) {
  struct stat status {};
  if (path.empty() || ::stat(path.c_str(), &status) != 0) return;
  constexpr std::int64_t kNanos = 1'000'000'000;
  mtime_ns = status.st_mtim.tv_sec * kNanos + status.st_mtim.tv_nsec;
  inode = status.st_ino;
}

void tell_end(const net::TlsContext& context, const std::string& path) {
  const std::int64_t left_s = context.expires_unix_s() - net::unix_ms() / 1000;
  if (left_s < 0)
    spdlog::error("{}: this certificate has ended; clients refuse it. Put a new one in its place", path);
  else if (left_s < kWarnBefore_s)
    spdlog::warn("{}: this certificate ends in {} days", path, left_s / (24 * 3600));
}

}  // namespace

base::Result<std::unique_ptr<TlsFront>> TlsFront::open(net::TlsFiles files) {
  const Version version = look(files);
  THAW_ASSIGN_OR_RETURN(auto context, net::TlsContext::load(files));
  tell_end(*context, files.certificate);
  return std::unique_ptr<TlsFront>(new TlsFront(std::move(files), std::move(context), version));
}

TlsFront::TlsFront(net::TlsFiles files, std::shared_ptr<net::TlsContext> context, Version version)
    : files_(std::move(files)), context_(std::move(context)), version_(version) {}

TlsFront::Version TlsFront::look(const net::TlsFiles& files) {
  Version version;
  look_at(files.certificate, version.certificate_mtime_ns, version.certificate_inode);
  look_at(files.key, version.key_mtime_ns, version.key_inode);
  look_at(files.client_ca, version.client_ca_mtime_ns, version.client_ca_inode);
  return version;
}

const net::TlsContext& TlsFront::context(base::TimePoint now) {
  if (now - looked_at_ >= kLookInterval) {
    looked_at_ = now;
    if (look(files_) != version_) reload();
  }
  return *context_;
}

void TlsFront::use(net::TlsFiles files) {
  files_ = std::move(files);
  reload();
}

void TlsFront::reload() {
  version_ = look(files_);  // before they are read: what changes meanwhile is read again
  auto loaded = net::TlsContext::load(files_);
  if (!loaded.ok()) {
    spdlog::error("TLS files have changed and cannot be used; the ones before stay in use: {}", loaded.error().message);
    return;
  }
  context_ = std::move(loaded).value();
  spdlog::info("TLS files read again: new connections get {}", files_.certificate);
  tell_end(*context_, files_.certificate);
}

}  // namespace thaw::gateway
