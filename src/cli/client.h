#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "cli/credentials.h"

namespace thaw::cli {

struct HttpRequest {
  std::string method = "GET";
  std::string path;  ///< from the slash on, already percent-encoded
  std::string body;  ///< JSON; empty: none
};

struct HttpResponse {
  int status = 0;          ///< 200 to 299: anything else is an Error
  std::string request_id;  ///< the x-request-id header
  std::string body;        ///< empty after stream()
};

/// How a streamed answer is taken.
struct StreamHandler {
  std::function<base::Status(std::string_view)>
      on_data;                    ///< body bytes as they come; a failure ends the transfer with it
  std::function<void()> on_tick;  ///< about ten times a second until the transfer ends; may be empty
  int interrupt_fd = -1;          ///< readable: close the connection and return at once
};

enum class StreamEnd { complete, interrupted };
struct StreamOutcome {
  StreamEnd end = StreamEnd::complete;
  HttpResponse response;
};

/// Speaks HTTP with one thaw server. Errors are for people: what the server said, or why it could not be reached and
/// what to do. ErrorKind::unavailable means that no connection came about, not_found 404, denied 401 and 403, invalid
/// 400, 413 and 422, conflict 409, exhausted 429 and 503. Blocking; use from one thread. A connection is closed when
/// the call returns.
class Client {
 public:
  static constexpr std::size_t kMaxBodyBytes = 64 << 20;
  static constexpr base::Duration kConnectTimeout = base::Seconds(5);
  static constexpr base::Duration kCallTimeout = base::Seconds(120);  ///< a call of the admin API, from start to end

  /// `tenant`: whose things calls of the admin API are about; empty: what the key says.
  explicit Client(Credentials credentials, std::string tenant = {}) : credentials_(std::move(credentials)), tenant_(std::move(tenant)) {}

  /// One request and its whole answer.
  [[nodiscard]] base::Result<HttpResponse> send(const HttpRequest& request) const;

  /// The same with a body that is handed on as it comes and may take as long as it likes (a dead peer is found by TCP
  /// keepalive).
  [[nodiscard]] base::Result<StreamOutcome> stream(const HttpRequest& request, const StreamHandler& handler) const;

  [[nodiscard]] const std::string& url() const { return credentials_.url; }

 private:
  [[nodiscard]] HttpRequest addressed(const HttpRequest& request) const;

  Credentials credentials_;
  std::string tenant_;
};

/// A model's or request's name as one segment of a path.
std::string percent_encode(std::string_view text);

}  // namespace thaw::cli
