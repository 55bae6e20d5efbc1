#include "spec/parse_tls_clients.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/tenancy.h"
#include "spec/tenant_spec.h"

namespace thaw::spec {
namespace {

using Client = ServerConfig::Tls::Client;

constexpr std::size_t kMaxClients = 256;
constexpr std::size_t kMaxSubject = 1024;

/// As RFC 2253 writes names, roughly: what never matches is said here, the rest is compared letter by letter.
void read_subject(const Cursor& at, Client& into) {
  std::string subject;
  if (!read_text(at, subject)) return;
  const bool control = std::any_of(subject.begin(), subject.end(),
                                   [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; });
  if (subject.empty() || subject.size() > kMaxSubject || control || subject.front() == '/' ||
      subject.find('=') == std::string::npos)
    return at.refuse(fmt::format(
        "\"{}\" is no certificate's subject; write it as `openssl x509 -noout -subject -nameopt RFC2253` does, such as "
        "\"CN=ops,O=Example\"",
        printable(subject)));
  into.subject = std::move(subject);
}

void read_tenant(const Cursor& at, Client& into) {
  std::string name;
  if (!read_text(at, name)) return;
  if (base::is_tenant_name(name))
    into.tenant = base::TenantName(name);
  else
    at.refuse(fmt::format("\"{}\" is no tenant's name; {}", printable(name), kTenantNameRule));
}

const Table<Client>& client_table() {
  static const Table<Client> table{
      required<Client>({"subject", read_subject, false, shapes::text()}),
      required(choice<Client, Role>("role", &Client::role,
                                    {{to_string(Role::admin), Role::admin},
                                     {to_string(Role::deployer), Role::deployer},
                                     {to_string(Role::inference), Role::inference},
                                     {to_string(Role::read_only), Role::read_only}})),
      {"tenant", read_tenant, false, shapes::text()},
      choice<Client, bool>("platform", &Client::platform, {{"false", false}, {"true", true}})};
  return table;
}

}  // namespace

std::string tls_clients_shape() {
  return shapes::list(shape_of(client_table()), kMaxClients);
}

void read_tls_clients(const Cursor& at, ServerConfig::Tls& into) {
  constexpr const char* kExample = "[{subject: \"CN=ops,O=Example\", role: admin, platform: true}]";
  read_items(at, {"certificates", kExample, kMaxClients}, [&into](const Cursor& item) {
    Client client;
    read_table(item, client_table(), client);
    const bool twice = std::any_of(into.clients.begin(), into.clients.end(),
                                   [&](const Client& other) { return other.subject == client.subject; });
    if (twice) item.refuse("has a subject that is there already");
    if (client.platform && client.tenant.str() != base::kDefaultTenant)
      item.refuse("cannot be of the platform and of a tenant; leave one out");
    into.clients.push_back(std::move(client));
  });
}

}  // namespace thaw::spec
