#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "node/sandbox/fd.h"

namespace thaw::node {

/// The few things that a sandbox's network needs of rtnetlink(7), without a program to run for each. Works in the
/// network namespace that the calling thread is in when it is opened, for as long as it lives. One thread at a time.
class Netlink {
 public:
  static base::Result<Netlink> open();

  /// Two ends of one cable: `name` here, `peer_name` in the namespace `peer_namespace` (a descriptor).
  [[nodiscard]] base::Status add_cable(const std::string& name, const std::string& peer_name, int peer_namespace);
  /// `ipv4` in host byte order.
  [[nodiscard]] base::Status add_address(const std::string& interface, std::uint32_t ipv4, std::uint8_t prefix_bits);
  [[nodiscard]] base::Status bring_up(const std::string& interface);

 private:
  explicit Netlink(Fd socket) : socket_(std::move(socket)) {}
  [[nodiscard]] base::Result<std::uint32_t> index_of(const std::string& interface) const;
  [[nodiscard]] base::Status ask(std::string& message, const std::string& what);

  Fd socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace thaw::node
