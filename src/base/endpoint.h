#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thaw::base {

/// Where an engine answers, as seen from its node. Two forms, written as text in messages:
///
///     /run/thaw/…/engine.sock                       a Unix socket
///     tcp:169.254.77.2:8080@/run/thaw/…/door        a TCP port in the network namespace that this file names
///
/// The second is for sandboxes with a network stack of their own (gVisor): nothing outside that namespace, neither the
/// host nor another sandbox, has a route to the address, so the same one serves any number of sandboxes.
struct Endpoint {
  std::string unix_path;       ///< absolute; empty: TCP
  std::string ipv4;            ///< dotted decimal
  std::uint16_t port = 0;      ///< > 0 with TCP
  std::string namespace_path;  ///< absolute; with TCP

  bool operator==(const Endpoint&) const = default;
};

std::string to_string(const Endpoint& endpoint);

/// Fails with invalid, quoting the text.
Result<Endpoint> parse_endpoint(std::string_view text);

}  // namespace thaw::base
