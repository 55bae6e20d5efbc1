#include "node/pull/address_rule.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace thaw::node::pull {
namespace {

struct Ipv4Range {
  std::uint32_t first;
  unsigned bits;
};

constexpr std::uint32_t ipv4(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  return a << 24U | b << 16U | c << 8U | d;
}

// https://www.iana.org/assignments/iana-ipv4-special-registry
constexpr std::array kSpecialIpv4{Ipv4Range{ipv4(0, 0, 0, 0), 8},      Ipv4Range{ipv4(10, 0, 0, 0), 8},     Ipv4Range{ipv4(100, 64, 0, 0), 10},
                                  Ipv4Range{ipv4(127, 0, 0, 0), 8},    Ipv4Range{ipv4(169, 254, 0, 0), 16}, Ipv4Range{ipv4(172, 16, 0, 0), 12},
                                  Ipv4Range{ipv4(192, 0, 0, 0), 24},   Ipv4Range{ipv4(192, 0, 2, 0), 24},   Ipv4Range{ipv4(192, 88, 99, 0), 24},
                                  Ipv4Range{ipv4(192, 168, 0, 0), 16}, Ipv4Range{ipv4(198, 18, 0, 0), 15},  Ipv4Range{ipv4(198, 51, 100, 0), 24},
                                  Ipv4Range{ipv4(203, 0, 113, 0), 24}, Ipv4Range{ipv4(224, 0, 0, 0), 4},    Ipv4Range{ipv4(240, 0, 0, 0), 4}};

bool is_public_ipv4(std::uint32_t address) {
  return std::none_of(kSpecialIpv4.begin(), kSpecialIpv4.end(),
                      [address](const Ipv4Range& range) { return (address ^ range.first) >> (32U - range.bits) == 0; });
}

using Bytes = std::array<std::uint8_t, 16>;

std::uint32_t ipv4_in(const Bytes& bytes, std::size_t at) {
  return ipv4(bytes.at(at), bytes.at(at + 1), bytes.at(at + 2), bytes.at(at + 3));
}

bool begins_with(const Bytes& bytes, std::initializer_list<std::uint8_t> prefix) {
  return std::equal(prefix.begin(), prefix.end(), bytes.begin());
}

// https://www.iana.org/assignments/iana-ipv6-special-registry
bool is_public_ipv6(const Bytes& b) {
  if (begins_with(b, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})) return is_public_ipv4(ipv4_in(b, 12));     // ::ffff:0:0/96, IPv4-mapped
  if (begins_with(b, {0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0})) return is_public_ipv4(ipv4_in(b, 12));  // 64:ff9b::/96, NAT64
  if (begins_with(b, {0x20, 0x02})) return is_public_ipv4(ipv4_in(b, 2));                                    // 2002::/16, 6to4
  if (begins_with(b, {0x20, 0x01, 0x0d, 0xb8})) return false;                                                // documentation
  if (begins_with(b, {0x20, 0x01}) && (b[2] & 0xfeU) == 0) return false;                                     // 2001::/23, protocols (Teredo)
  if (b[0] == 0x3f && b[1] == 0xff && (b[2] & 0xf0U) == 0) return false;                                     // 3fff::/20, documentation
  return (b[0] & 0xe0U) == 0x20;  // 2000::/3, all that is given out for the internet; the rest is loopback, local, multicast or nobody's
}

}  // namespace

bool is_public(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    return is_public_ipv4(ntohl(in.sin_addr.s_addr));
  }
  if (address.sa_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address, sizeof in);
    Bytes bytes{};
    std::memcpy(bytes.data(), &in.sin6_addr, bytes.size());
    return is_public_ipv6(bytes);
  }
  return false;
}

std::string format_address(const sockaddr& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.sa_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    ::inet_ntop(AF_INET, &in.sin_addr, text.data(), text.size());
  } else if (address.sa_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address, sizeof in);
    ::inet_ntop(AF_INET6, &in.sin6_addr, text.data(), text.size());
  } else {
    return "?";
  }
  return text.data();
}

}  // namespace thaw::node::pull
