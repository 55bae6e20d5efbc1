#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

/// Where an engine may connect to, one entry of spec.network.egress:
///
///     huggingface.co:443       a host by its name, as the node resolves it; only at public addresses
///     *.hf.co:443              every host below a domain
///     10.1.2.0/24:9000         addresses, also private ones; [2001:db8::/32]:443, 192.0.2.7:443
///
/// Pure.
namespace thaw::spec {

struct EgressRule {
  std::string host;                        ///< lower case, without a dot at its end; with "*." in front: all below. Empty: addresses
  std::array<std::uint8_t, 16> network{};  ///< IPv6, or IPv4 as ::ffff:a.b.c.d
  unsigned bits = 0;                       ///< of `network`, that count: 0 to 128
  std::uint16_t port = 0;                  ///< > 0

  bool operator==(const EgressRule&) const = default;
};

/// Entries of one model.
inline constexpr std::size_t kMaxEgressRules = 64;

/// Fails (invalid) with what is wrong and how to write it.
base::Result<EgressRule> parse_egress_rule(std::string_view text);

/// Whether the name is the rule's (which has one), or below its domain. `host`: lower case, without a dot at its end.
bool names(const EgressRule& rule, std::string_view host);
/// Whether the address is one of the rule's (which has some).
bool holds(const EgressRule& rule, const std::array<std::uint8_t, 16>& address);

/// "10.1.2.3" or "2001:db8::1" in 16 bytes; nothing for what is no address.
base::Result<std::array<std::uint8_t, 16>> parse_address(std::string_view text);

/// A DNS name: letters, digits, "-" and "_" in parts of 1 to 63, 253 in all; in lower case and without a dot at its end. invalid otherwise.
base::Result<std::string> parse_host_name(std::string_view text);

}  // namespace thaw::spec
