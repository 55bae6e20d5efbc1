#include "node/egress/proxy_request.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

namespace thaw::node {
namespace {

constexpr std::string_view kHttp = "http://";
constexpr std::uint16_t kHttpPort = 80;

/// "host:port", "[::1]:443"; the port may be left out where `usual` has one.
bool read_authority(std::string_view text, std::uint16_t usual, ProxyRequest& into) {
  std::string_view host = text;
  into.port = usual;
  const std::size_t bracket = text.starts_with('[') ? text.find(']') : std::string_view::npos;
  const std::size_t colon = text.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon != std::string_view::npos) {
    host = text.substr(0, colon);
    const std::string_view port = text.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), into.port);
    if (port.empty() || error != std::errc() || end != port.data() + port.size()) return false;
  }
  if (host.starts_with('[')) {
    if (!host.ends_with(']') || host.size() < 3) return false;
    host = host.substr(1, host.size() - 2);
  }
  into.host = std::string(host);
  constexpr std::string_view kHost = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:";
  return into.port != 0 && !host.empty() && host.find_first_not_of(kHost) == std::string_view::npos;
}

/// What concerns the proxy and the client alone, or is set anew.
bool is_between(std::string_view name) {
  constexpr std::string_view kNames[] = {"connection", "proxy-connection", "keep-alive", "proxy-authorization", "host", "upgrade", "te"};
  return std::any_of(std::begin(kNames), std::end(kNames), [&](std::string_view one) { return net::equals_lower(name, one); });
}

}  // namespace

net::Parse read_proxy_request(std::string_view data, ProxyRequest& request, net::HeadError& error) {
  const std::size_t line = data.find("\r\n");
  if (line == std::string_view::npos) {
    if (data.size() <= net::kMaxHeadBytes) return net::Parse::more;
    error = {431, "the request's head is too long"};
    return net::Parse::bad;
  }
  const std::size_t first = data.find(' ');
  const std::size_t second = first < line ? data.find(' ', first + 1) : std::string_view::npos;
  if (second == std::string_view::npos || second > line) {
    error = {400, "the request line is none"};
    return net::Parse::bad;
  }
  const std::string_view method = data.substr(0, first);
  const std::string_view target = data.substr(first + 1, second - first - 1);
  const std::string_view rest = data.substr(second);
  std::string path = "/";
  request = {};
  request.tunnel = method == "CONNECT";
  std::string_view authority = target;
  if (!request.tunnel) {
    if (!target.starts_with(kHttp)) {
      error = {400, "this is a proxy: it takes CONNECT host:port, and http:// with a host"};
      return net::Parse::bad;
    }
    authority = target.substr(kHttp.size());
    const std::size_t slash = std::min(authority.find_first_of("/?"), authority.size());
    path = std::string(authority.substr(slash));
    if (!path.starts_with('/')) path = "/" + path;
    authority = authority.substr(0, slash);
  }
  if (!read_authority(authority, request.tunnel ? std::uint16_t{0} : kHttpPort, request)) {
    error = {400, "the request names no host and port"};
    return net::Parse::bad;
  }
  // In origin form the usual reader judges the rest of it.
  const std::string plain = fmt::format("{} {}{}", method, path, rest.substr(0, net::kMaxHeadBytes));
  net::Head head;
  const net::Parse parsed = net::parse_request(plain, head, error);
  if (parsed != net::Parse::done) return parsed;
  request.bytes = second + (head.bytes - method.size() - 1 - path.size());
  if (request.tunnel) return parsed;
  request.passed_on = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", method, path, authority);
  std::size_t passed = 2;  // host and connection
  for (std::size_t i = 0; i < head.header_count; ++i) {
    const net::Header& header = head.headers.at(i);
    if (is_between(header.name)) continue;
    request.passed_on += fmt::format("{}: {}\r\n", header.name, header.value);
    ++passed;
  }
  request.passed_on += "Connection: close\r\n\r\n";
  if (passed > net::kMaxHeaders || request.passed_on.size() > net::kMaxHeadBytes) {
    // With what is said in their place it would be more than the next one who reads like this takes.
    error = {431, "the request has too many headers, or too long ones"};
    return net::Parse::bad;
  }
  return parsed;
}

}  // namespace thaw::node
