#include "gateway/api_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/parse.hpp>
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

namespace {

/// https://docs.anthropic.com/en/api/errors
const char* anthropic_type(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503: return "overloaded_error";
    default: return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

std::string anthropic(int status, std::string_view message, std::string_view request_id) {
  return boost::json::serialize(boost::json::object{{"type", "error"},
                                                    {"error", {{"type", anthropic_type(status)}, {"message", spec::replace_invalid_utf8(std::string(message))}}},
                                                    {"request_id", request_id}});
}

}  // namespace

std::string ApiError::json(Dialect dialect, std::string_view request_id) const {
  return dialect == Dialect::anthropic ? anthropic(status, message, request_id) : json();
}

std::string ApiError::event(Dialect dialect, std::string_view request_id) const {
  return (dialect == Dialect::anthropic ? "event: error\ndata: " : "data: ") + json(dialect, request_id) + "\n\n";
}

std::string to_anthropic(int status, std::string_view body, std::string_view request_id) {
  boost::json::error_code ec;
  const boost::json::value answer = boost::json::parse(body, ec);
  const boost::json::object* const object = ec ? nullptr : answer.if_object();
  const boost::json::value* const type = object == nullptr ? nullptr : object->if_contains("type");
  if (type != nullptr && type->is_string() && type->get_string() == "error") return std::string(body);
  const boost::json::value* const error = object == nullptr ? nullptr : object->if_contains("error");
  const boost::json::value* message = error != nullptr && error->is_object() ? error->get_object().if_contains("message") : nullptr;
  for (const char* const key : {"message", "detail", "error"})  // as older engines and FastAPI have it
    if (object != nullptr && message == nullptr) message = object->if_contains(key);
  constexpr std::size_t kMaxWords = 1000;
  return anthropic(status, message != nullptr && message->is_string() ? std::string_view(message->get_string()) : body.substr(0, kMaxWords), request_id);
}

ApiError engine_without_route(std::string_view model, std::string_view engine, std::string_view path) {
  return {404, "invalid_request_error", "unsupported_by_engine",
          fmt::format("the engine of model \"{}\" ({}) does not offer {}; docs/openai-api.md says which engines do", model, engine, path), {}, {}};
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
