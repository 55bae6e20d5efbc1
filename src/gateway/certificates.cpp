#include "gateway/certificates.h"

#include <utility>

namespace thaw::gateway {
namespace {

/// Every browser says at least one of these with a request that is not its user's own navigation.
bool is_for_a_page(const net::Head& head) {
  if (head.find("origin")) return true;
  const auto site = head.find("sec-fetch-site");
  return site && *site != "none";
}

}  // namespace

ClientCertificates::ClientCertificates(std::vector<spec::ServerConfig::Tls::Client> clients) {
  for (auto& client : clients) {
    std::string subject = client.subject;
    known_.emplace(std::move(subject), Known{std::move(client), nullptr});
  }
}

bool ClientCertificates::still_is(const Caller& caller) const {
  const auto found = known_.find(caller.subject);
  if (found == known_.end()) return false;
  const auto& client = found->second.client;
  return client.role == caller.role && client.tenant == caller.tenant && client.platform == caller.platform;
}

std::optional<ApiError> ClientCertificates::identify(const std::string& subject, const net::Head& head,
                                                     const Tenants& tenants, std::shared_ptr<const Caller>& caller) {
  const auto refuse = [](const char* message, const char* code) {
    return ApiError{401, "authentication_error", code, message, {}, {}};
  };
  if (is_for_a_page(head))
    return refuse("a client's certificate does not stand for the requests of pages; send an API key",
                  "missing_api_key");
  const auto found = known_.find(subject);
  if (found == known_.end())
    return refuse("the client's certificate stands for nobody here; send an API key", "missing_api_key");
  auto& [client, known] = found->second;
  const Tenant* const tenant = tenants.find(client.tenant);
  if (tenant == nullptr)
    return refuse("the client's certificate is of a tenant that this server does not have", "invalid_certificate");
  if (!known || known->account != tenant->account) {
    auto made = std::make_shared<Caller>();
    made->subject = subject;
    made->certificate = true;
    made->tenant = client.tenant;
    made->role = client.role;
    made->platform = client.platform;
    made->account = tenant->account;
    known = std::move(made);
  }
  caller = known;
  return std::nullopt;
}

}  // namespace thaw::gateway
