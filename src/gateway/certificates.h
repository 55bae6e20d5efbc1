#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "gateway/api_error.h"
#include "gateway/caller.h"
#include "gateway/tenants.h"
#include "net/http.h"
#include "spec/server_config.h"

namespace thaw::gateway {

/// Clients' certificates that stand for somebody (tls.clients): who shows one needs no key. Subjects are compared
/// letter by letter as RFC 2253 writes them; that the certificate is by the CA, and its holder has the key, the
/// handshake has shown. Loop thread only.
///
/// A request with a key or token is the key's, whatever certificate its connection has. And one that a browser sends
/// for a page does not count: a browser shows its certificate for any page that asks, so that a stranger's page could
/// act as its user. Pages need a key.
class ClientCertificates {
 public:
  explicit ClientCertificates(std::vector<spec::ServerConfig::Tls::Client> clients);

  /// Whether the certificate stands for somebody at all.
  [[nodiscard]] bool knows(const std::string& subject) const { return known_.contains(subject); }
  /// Whether it still stands for the same as when the caller came in by it.
  [[nodiscard]] bool still_is(const Caller& caller) const;

  /// For a request without a key on a connection with a certificate that is known. Errors: 401.
  [[nodiscard]] std::optional<ApiError> identify(const std::string& subject, const net::Head& head,
                                                 const Tenants& tenants, std::shared_ptr<const Caller>& caller);

 private:
  struct Known {
    spec::ServerConfig::Tls::Client client;
    std::shared_ptr<const Caller> caller;  ///< made at the first request, and anew when its tenant was
  };
  std::unordered_map<std::string, Known> known_;  ///< by subject
};

}  // namespace thaw::gateway
