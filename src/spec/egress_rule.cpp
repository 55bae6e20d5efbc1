#include "spec/egress_rule.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "spec/problems.h"

namespace thaw::spec {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::size_t kMaxName = 253, kMaxPart = 63;
constexpr unsigned kBits = 128, kIpv4At = 96;

Error wrong(std::string_view text, std::string_view why) {
  return {ErrorKind::invalid,
          fmt::format("\"{}\" is no destination: {}; write it like huggingface.co:443, *.hf.co:443, 10.1.2.0/24:9000 or [2001:db8::1]:443",
                      printable(text.substr(0, 300)), why)};
}

template <typename Number>
bool read_number(std::string_view text, Number& into) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
  return !text.empty() && error == std::errc() && end == text.data() + text.size();
}

bool is_part(std::string_view part) {
  return !part.empty() && part.size() <= kMaxPart && part.front() != '-' && part.back() != '-' &&
         std::all_of(part.begin(), part.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; });
}

}  // namespace

base::Result<std::array<std::uint8_t, 16>> parse_address(std::string_view text) {
  std::array<std::uint8_t, 16> bytes{};
  const std::string whole(text);
  if (::inet_pton(AF_INET6, whole.c_str(), bytes.data()) == 1) return bytes;
  bytes[10] = bytes[11] = 0xff;
  if (::inet_pton(AF_INET, whole.c_str(), bytes.data() + 12) == 1) return bytes;
  return Error{ErrorKind::invalid, fmt::format("\"{}\" is no address", printable(text.substr(0, 100)))};
}

base::Result<std::string> parse_host_name(std::string_view text) {
  const Error no_name{ErrorKind::invalid, fmt::format("\"{}\" is no host name", printable(text.substr(0, 300)))};
  if (text.ends_with('.')) text.remove_suffix(1);
  if (text.empty() || text.size() > kMaxName) return no_name;
  std::string name(text);
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  std::string_view rest = name;
  std::string_view part;
  while (true) {
    const std::size_t dot = rest.find('.');
    part = rest.substr(0, dot);
    if (!is_part(part)) return no_name;
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  // What a resolver might take for an address ("127.1", "0x7f000001") is no name.
  if (part.front() >= '0' && part.front() <= '9') return no_name;
  return name;
}

base::Result<EgressRule> parse_egress_rule(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong(text, "there is no port");
  EgressRule rule;
  if (!read_number(text.substr(colon + 1), rule.port) || rule.port == 0) return wrong(text, "its port is none");
  std::string_view place = text.substr(0, colon);
  const bool brackets = place.starts_with('[') && place.ends_with(']');
  if (brackets) place = place.substr(1, place.size() - 2);
  if (!brackets && place.find(':') != std::string_view::npos) return wrong(text, "an IPv6 address stands in brackets");
  const std::size_t slash = place.find('/');
  if (const auto address = parse_address(place.substr(0, slash)); address.ok()) {
    const bool ipv4 = place.find(':') == std::string_view::npos;
    const unsigned most = ipv4 ? kBits - kIpv4At : kBits;
    unsigned bits = most;
    if (slash != std::string_view::npos && (!read_number(place.substr(slash + 1), bits) || bits > most))
      return wrong(text, "behind \"/\" stands no number of bits");
    rule.network = *address;
    rule.bits = ipv4 ? bits + kIpv4At : bits;
    return rule;
  }
  if (brackets || slash != std::string_view::npos) return wrong(text, "it has no address");
  const bool below = place.starts_with("*.");
  const auto name = parse_host_name(below ? place.substr(2) : place);
  if (!name.ok()) return wrong(text, "it has no host name or address");
  if (below && name->find('.') == std::string::npos) return wrong(text, "that is all hosts of a top-level domain");
  rule.host = (below ? "*." : "") + *name;
  return rule;
}

bool names(const EgressRule& rule, std::string_view host) {
  if (!rule.host.starts_with("*.")) return !rule.host.empty() && rule.host == host;
  const std::string_view end = std::string_view(rule.host).substr(1);
  return host.size() > end.size() && host.ends_with(end);
}

bool holds(const EgressRule& rule, const std::array<std::uint8_t, 16>& address) {
  if (!rule.host.empty()) return false;
  for (unsigned bit = 0; bit < rule.bits; ++bit) {
    const auto mask = static_cast<std::uint8_t>(0x80U >> (bit % 8));
    if (((address.at(bit / 8) ^ rule.network.at(bit / 8)) & mask) != 0) return false;
  }
  return true;
}

}  // namespace thaw::spec
