#pragma once

#include <stop_token>
#include <string>

#include "base/result.h"
#include "base/time.h"

namespace thaw::node {

/// One question to an engine.
struct EngineQuestion {
  std::string method = "GET";
  std::string target;
  std::string body = {};  ///< JSON; sent with POST
  /// Return when the engine has closed the connection too, so that no state of it is left on its side.
  bool until_closed = false;
};

struct EngineAnswer {
  int status = 0;
  std::string body;  ///< at most kMaxEngineAnswer bytes
};
inline constexpr std::size_t kMaxEngineAnswer = 1U << 20;

/// Asks and reads the whole answer; one connection a question. Blocks until the deadline at most, and ends soon (50 ms)
/// after `stop` was requested. `address`: base/endpoint.h. Errors: invalid (it is none), unavailable (nobody listens; stop),
/// timeout, io (the engine closed the connection in the middle, or speaks no HTTP).
base::Result<EngineAnswer> ask_engine(const std::string& address, const EngineQuestion& question,
                                      base::TimePoint deadline, const std::stop_token& stop = {});

}  // namespace thaw::node
