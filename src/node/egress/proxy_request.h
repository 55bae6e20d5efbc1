#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "net/http.h"

namespace thaw::node {

/// What a client asks an HTTP proxy for (RFC 9110, 9.3.6 and RFC 9112, 3.2): a tunnel, or one request that is passed on.
struct ProxyRequest {
  bool tunnel = false;  ///< CONNECT
  std::string host;     ///< as written, without brackets
  std::uint16_t port = 0;
  std::string
      passed_on;  ///< else the head for the server: in origin form, with its Host, without what is between client and proxy, to be closed after it
  std::size_t bytes = 0;  ///< of the head that was read
};

/// `data` begins with a request. As strict as net::parse_request, whose answers these are; heads are at most net::kMaxHeadBytes long. Pure.
net::Parse read_proxy_request(std::string_view data, ProxyRequest& request, net::HeadError& error);

}  // namespace thaw::node
