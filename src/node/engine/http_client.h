#pragma once

#include <stop_token>
#include <string>

#include "base/result.h"
#include "base/time.h"

namespace thaw::node {

/// One question to an engine over its Unix socket.
struct EngineQuestion {
  std::string method = "GET";
  std::string target;
  std::string body = {};  ///< JSON; sent with POST
};

struct EngineAnswer {
  int status = 0;
  std::string body;  ///< at most kMaxEngineAnswer bytes
};
inline constexpr std::size_t kMaxEngineAnswer = 1U << 20;

/// Asks and reads the whole answer; one connection a question. Blocks until the deadline at most, and ends soon (50 ms)
/// after `stop` was requested. Errors: invalid (the socket's path is too long), unavailable (nobody listens; stop),
/// timeout, io (the engine closed the connection in the middle, or speaks no HTTP).
base::Result<EngineAnswer> ask_engine(const std::string& socket_path, const EngineQuestion& question,
                                      base::TimePoint deadline, const std::stop_token& stop = {});

}  // namespace thaw::node
