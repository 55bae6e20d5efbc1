#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "base/time.h"
#include "net/tls.h"

namespace thaw::gateway {

/// The certificate that new connections are answered with, as its files say at present. They are looked at when a connection comes, at most once a
/// second: an idle server does nothing. Files that cannot be used (half written, key and certificate of different pairs) change nothing but are said
/// in the log: the ones before stay in use. Loop thread; reading the files is a millisecond when they have changed.
class TlsFront {
 public:
  static base::Result<std::unique_ptr<TlsFront>> open(net::TlsFiles files);

  [[nodiscard]] const net::TlsContext& context(base::TimePoint now);
  /// SIGHUP: reads them whether they seem changed or not.
  void reload();
  /// From now on these files, which were found to be good (net::TlsContext::load).
  void use(net::TlsFiles files);

 private:
  /// What tells one version of the files from another, links (as Kubernetes renews secrets) followed.
  struct Version {
    std::int64_t certificate_mtime_ns = 0, key_mtime_ns = 0, client_ca_mtime_ns = 0;
    std::uint64_t certificate_inode = 0, key_inode = 0, client_ca_inode = 0;
    bool operator==(const Version&) const = default;
  };
  TlsFront(net::TlsFiles files, std::shared_ptr<net::TlsContext> context, Version version);
  static Version look(const net::TlsFiles& files);

  net::TlsFiles files_;
  std::shared_ptr<net::TlsContext> context_;
  Version version_;
  base::TimePoint looked_at_{};
};

}  // namespace thaw::gateway
