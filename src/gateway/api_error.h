#pragma once

#include <string>

#include "base/result.h"
#include "base/time.h"
#include "control/scheduler.h"

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
  /// Header lines: Retry-After, retry-after-ms, x-should-retry. Clients refuse waits over 60 s, so 1 to 60 s are sent.
  [[nodiscard]] std::string headers() const;
};

ApiError invalid_request(std::string message, std::string param = {}, std::string code = {});
ApiError model_not_found(const std::string& model);
ApiError refused(const control::Refuse& refusal);
ApiError from_error(const base::Error& error);

const char* reason_phrase(int status);

}  // namespace thaw::gateway
