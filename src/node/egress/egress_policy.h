#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "spec/egress_rule.h"

namespace thaw::node {

/// Where a proxy of ours connects to. A name is resolved only if it may be reached, by the node and at the moment of connecting, and it is the
/// address that is judged: whoever owns a name may have it lead anywhere. Pure.
struct EgressPolicy {
  std::vector<spec::EgressRule> rules;
  bool private_by_rule = true;             ///< rules of addresses hold for private ones too
  bool everything_public = false;          ///< beside the rules: any host, any port, at public addresses
  std::vector<std::string> private_hosts;  ///< with that: "host" or "host:port", at whatever address

  /// Whether anything may be asked of this host, by name or address as a client wrote it. denied, with what it is not in.
  [[nodiscard]] base::Status check_host(std::string_view host, std::uint16_t port) const;
  /// Of a host that passed: whether this address of it may be connected to.
  [[nodiscard]] bool allows(std::string_view host, std::uint16_t port, const sockaddr& address) const;
};

}  // namespace thaw::node
