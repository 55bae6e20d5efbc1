#include <cstdint>
#include <string_view>

#include "fuzz/check.h"
#include "node/egress/proxy_request.h"
#include "spec/egress_rule.h"
#include "spec/image_ref.h"

/// What an engine says to its proxy, and the words of a spec that name hosts and images: by the first byte.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace thaw;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 3 == 0) {
    node::ProxyRequest request;
    net::HeadError error;
    if (node::read_proxy_request(text, request, error) != net::Parse::done) return 0;
    FUZZ_CHECK(request.port > 0 && !request.host.empty() && request.bytes <= text.size());
    FUZZ_CHECK(request.host.find_first_of("\r\n \0") == std::string::npos || request.host.find('\0') != std::string::npos);
    // What is passed on is one request, by the same reader.
    net::Head head;
    if (!request.tunnel) FUZZ_CHECK(net::parse_request(request.passed_on, head, error) == net::Parse::done && head.bytes == request.passed_on.size());
  } else if (data[0] % 3 == 1) {
    const auto rule = spec::parse_egress_rule(text);
    if (!rule.ok()) return 0;
    FUZZ_CHECK(rule->port > 0 && rule->bits <= 128);
    FUZZ_CHECK(rule->host.empty() || spec::parse_host_name(rule->host.starts_with("*.") ? rule->host.substr(2) : rule->host).ok());
  } else {
    const auto ref = spec::parse_image_ref(text, "/base");
    if (!ref.ok()) return 0;
    const auto again = spec::parse_image_ref(spec::to_string(*ref), "");
    FUZZ_CHECK(again.ok() && *again == *ref);
  }
  return 0;
}
