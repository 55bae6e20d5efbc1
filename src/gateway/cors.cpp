#include "gateway/cors.h"

#include <algorithm>

namespace thaw::gateway {
namespace {

constexpr std::string_view kOpenPrefix = "/v1/";

}  // namespace

std::string_view Cors::allowed(const net::Head& head) const {
  if (origins_.empty() || !head.path().starts_with(kOpenPrefix)) return {};
  const auto origin = head.find("origin");
  if (!origin) return {};
  const bool known = std::any_of(origins_.begin(), origins_.end(), [&](const std::string& one) { return one == "*" || one == *origin; });
  return known ? *origin : std::string_view{};
}

bool Cors::is_preflight(const net::Head& head) const {
  return head.method == "OPTIONS" && head.find("access-control-request-method") && !allowed(head).empty();
}

void append_cors(std::string& out, std::string_view origin) {
  if (origin.empty()) return;
  out.append("Access-Control-Allow-Origin: ")
      .append(origin)
      .append("\r\nVary: Origin\r\nAccess-Control-Expose-Headers: x-request-id, retry-after, x-thaw-start, x-thaw-queue-ms, x-thaw-ttft-ms\r\n");
}

std::string preflight_headers() {
  return "Access-Control-Allow-Methods: GET, POST\r\nAccess-Control-Allow-Headers: authorization, content-type, x-api-key, x-session-id, x-thaw-priority\r\n"
         "Access-Control-Max-Age: 600\r\n";
}

}  // namespace thaw::gateway
