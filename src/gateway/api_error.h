#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "control/scheduler.h"
#include "gateway/dialect.h"

namespace thaw::gateway {

/// An error as OpenAI's clients understand it: {"error":{"message","type","param","code"}} with a status and, if a retry may help, Retry-After.
struct ApiError {
  int status = 500;
  std::string type;      ///< "invalid_request_error", "authentication_error", "server_error", ...
  std::string code;      ///< machine-readable; empty: null
  std::string message;
  std::string param;     ///< empty: null
  base::Duration retry_after{};  ///< 0: none

  [[nodiscard]] std::string json() const;
  /// In another API's words. `request_id`: as clients see it.
  [[nodiscard]] std::string json(Dialect dialect, std::string_view request_id) const;
  /// As an event of a stream, with the empty line behind it.
  [[nodiscard]] std::string event(Dialect dialect, std::string_view request_id) const;
  /// Header lines: Retry-After, retry-after-ms, x-should-retry. Clients refuse waits over 60 s, so 1 to 60 s are sent.
  [[nodiscard]] std::string headers() const;
};

ApiError invalid_request(std::string message, std::string param = {}, std::string code = {});
ApiError model_not_found(const std::string& model);
ApiError refused(const control::Refuse& refusal);
ApiError from_error(const base::Error& error);
/// The engine has no such route: its own words say that to nobody. `path`: of the request.
ApiError engine_without_route(std::string_view model, std::string_view engine, std::string_view path);
/// An engine's error answer as an Anthropic error; `body` as it is when it is one already.
std::string to_anthropic(int status, std::string_view body, std::string_view request_id);

const char* reason_phrase(int status);

}  // namespace thaw::gateway
