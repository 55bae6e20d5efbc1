#include "gateway/api_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <utility>

#include "spec/utf8.h"

namespace thaw::gateway {

std::string ApiError::json() const {
  const auto or_null = [](const std::string& text) { return text.empty() ? boost::json::value(nullptr) : boost::json::value(text); };
  // An engine's last words may be in it, and clients' parsers take valid UTF-8 only.
  return boost::json::serialize(boost::json::object{
      {"error", {{"message", spec::replace_invalid_utf8(message)}, {"type", type}, {"param", or_null(param)}, {"code", or_null(code)}}}});
}

std::string ApiError::headers() const {
  if (retry_after <= base::Duration::zero()) return status >= 500 || status == 429 ? "x-should-retry: false\r\n" : "";
  const auto ms = std::clamp<std::int64_t>(base::duration_cast<base::Millis>(retry_after).count(), 1000, 60'000);
  return fmt::format("Retry-After: {}\r\nretry-after-ms: {}\r\n", (ms + 999) / 1000, ms);
}

ApiError invalid_request(std::string message, std::string param, std::string code) {
  return {400, "invalid_request_error", std::move(code), std::move(message), std::move(param), {}};
}

ApiError model_not_found(const std::string& model) {
  return {404, "invalid_request_error", "model_not_found", "the model \"" + model + "\" does not exist; GET /v1/models lists those that do", "model", {}};
}

ApiError refused(const control::Refuse& refusal) {
  using Why = control::Refuse::Why;
  ApiError error{503, "server_error", to_string(refusal.why), refusal.message, {}, refusal.retry_after};
  switch (refusal.why) {
    case Why::queue_full: error.status = 429; error.type = "rate_limit_error"; break;
    case Why::tenant_quota: error.status = 429; error.type = "insufficient_quota"; break;
    case Why::replica_failed: error.status = 502; break;
    case Why::model_removed: error.status = 404; error.type = "invalid_request_error"; error.param = "model"; break;
    case Why::queue_timeout:
    case Why::no_capacity:
    case Why::start_failed:
    case Why::draining: break;
  }
  return error;
}

ApiError from_error(const base::Error& error) {
  using base::ErrorKind;
  switch (error.kind) {
    case ErrorKind::invalid: return invalid_request(error.message);
    case ErrorKind::not_found: return {404, "invalid_request_error", "not_found", error.message, {}, {}};
    case ErrorKind::conflict: return {409, "invalid_request_error", "conflict", error.message, {}, {}};
    case ErrorKind::denied: return {403, "permission_error", "denied", error.message, {}, {}};
    case ErrorKind::exhausted: return {422, "invalid_request_error", "cannot_fit", error.message, {}, {}};
    case ErrorKind::unavailable: return {503, "server_error", "unavailable", error.message, {}, base::Seconds(1)};
    case ErrorKind::timeout: return {504, "server_error", "timeout", error.message, {}, {}};
    case ErrorKind::io:
    case ErrorKind::internal: return {500, "server_error", "internal", error.message, {}, {}};
  }
  return {500, "server_error", "internal", error.message, {}, {}};
}

const char* reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "Other";
  }
}

}  // namespace thaw::gateway
