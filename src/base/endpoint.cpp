#include "base/endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace thaw::base {
namespace {

constexpr std::string_view kTcp = "tcp:";

/// Four numbers of 0 to 255 and nothing else.
bool is_ipv4(std::string_view text) {
  int numbers = 0;
  while (true) {
    const std::size_t dot = std::min(text.find('.'), text.size());
    unsigned number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + dot, number);
    if (error != std::errc{} || end != text.data() + dot || number > 255) return false;
    ++numbers;
    if (dot == text.size()) return numbers == 4;
    text.remove_prefix(dot + 1);
  }
}

std::optional<std::uint16_t> port_of(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

}  // namespace

std::string to_string(const Endpoint& endpoint) {
  if (!endpoint.unix_path.empty()) return endpoint.unix_path;
  return fmt::format("{}{}:{}@{}", kTcp, endpoint.ipv4, endpoint.port, endpoint.namespace_path);
}

Result<Endpoint> parse_endpoint(std::string_view text) {
  const Error wrong{ErrorKind::invalid,
                    fmt::format("\"{}\" is no engine's address: neither the path of a Unix socket nor "
                                "tcp:ADDRESS:PORT@NAMESPACE",
                                text)};
  Endpoint endpoint;
  if (text.starts_with('/')) {
    endpoint.unix_path = text;
    return endpoint;
  }
  const std::size_t at = text.find('@');
  if (!text.starts_with(kTcp) || at == std::string_view::npos) return wrong;
  const std::string_view address = text.substr(kTcp.size(), at - kTcp.size());
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos || !is_ipv4(address.substr(0, colon))) return wrong;
  const auto port = port_of(address.substr(colon + 1));
  endpoint.ipv4 = address.substr(0, colon);
  endpoint.namespace_path = text.substr(at + 1);
  if (!port || !endpoint.namespace_path.starts_with('/')) return wrong;
  endpoint.port = *port;
  return endpoint;
}

}  // namespace thaw::base
