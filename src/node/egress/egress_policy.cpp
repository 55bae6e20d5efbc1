#include "node/egress/egress_policy.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "node/pull/address_rule.h"
#include "spec/problems.h"

namespace thaw::node {
namespace {

using Bytes = std::array<std::uint8_t, 16>;

Bytes bytes_of(const sockaddr& address) {
  Bytes bytes{};
  if (address.sa_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address, sizeof in);
    std::memcpy(bytes.data(), &in.sin6_addr, bytes.size());
  } else if (address.sa_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    bytes[10] = bytes[11] = 0xff;
    std::memcpy(bytes.data() + 12, &in.sin_addr, 4);
  }
  return bytes;
}

bool lists(const std::vector<std::string>& hosts, std::string_view host, std::uint16_t port) {
  const std::string with_port = fmt::format("{}:{}", host, port);
  return std::any_of(hosts.begin(), hosts.end(), [&](const std::string& one) { return one == host || one == with_port; });
}

}  // namespace

base::Status EgressPolicy::check_host(std::string_view text, std::uint16_t port) const {
  const auto here = [port](const spec::EgressRule& rule) { return rule.port == port; };
  if (everything_public) return {};
  if (const auto address = spec::parse_address(text); address.ok()) {
    if (std::any_of(rules.begin(), rules.end(), [&](const spec::EgressRule& rule) { return here(rule) && spec::holds(rule, *address); })) return {};
  } else {
    const auto name = spec::parse_host_name(text);
    if (name.ok() && std::any_of(rules.begin(), rules.end(), [&](const spec::EgressRule& rule) { return here(rule) && spec::names(rule, *name); }))
      return {};
  }
  return base::Error{base::ErrorKind::denied, fmt::format("{}:{} is not in spec.network.egress", spec::printable(text.substr(0, 253)), port)};
}

bool EgressPolicy::allows(std::string_view host, std::uint16_t port, const sockaddr& address) const {
  const bool is_open = pull::is_public(address);
  if (everything_public) return is_open || lists(private_hosts, host, port);
  const bool by_address = std::any_of(rules.begin(), rules.end(),
                                      [&](const spec::EgressRule& rule) { return rule.port == port && spec::holds(rule, bytes_of(address)); });
  if (by_address) return is_open || private_by_rule;
  // By its name, which check_host() found in a rule.
  return is_open && !spec::parse_address(host).ok();
}

}  // namespace thaw::node
