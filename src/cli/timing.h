#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/fwd.hpp>

#include "base/result.h"
#include "cli/client.h"
#include "cli/gantt.h"
#include "cli/interrupt.h"

namespace thaw::cli {

/// Weights that a cold start read ahead of its engine.
struct WeightsRead {
  std::uint64_t read_bytes = 0;
  std::uint64_t resident_bytes = 0;  ///< in memory before
  double duration_ms = 0;
};

/// The server's record of one request: how long each part of it took.
struct RequestRecord {
  bool done = false;  ///< false: the numbers may still change
  bool cold = false;
  std::string way;    ///< of a cold one: by which its replica came up: "wake", "restore", "start"
  std::string why;    ///< ... and why so
  double queued_ms = 0;
  std::optional<double> ttft_ms;  ///< arrival to first byte of the answer
  double total_ms = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::uint64_t attempts = 1;
  std::vector<TimelinePhase> phases;
  std::optional<WeightsRead> weights;
};

base::Result<RequestRecord> parse_record(std::string_view body);

/// Fetches the record, which the server completes moments after the stream's end: asks again for at most a second.
/// not_found when it stayed away; ends early on Ctrl-C. The body as the server sent it is put into *raw.
base::Result<RequestRecord> fetch_record(const Client& client, const std::string& request_id,
                                         const Interrupt& interrupt, std::string* raw);

/// Tokens a second after the first one; absent for less than two tokens or no time.
std::optional<double> tokens_per_second(std::uint64_t tokens, double first_ms, double end_ms);

/// What --timing prints: tokens and rate, cold or warm, time to first token, what was read for it, and the phases as a chart.
std::string render_timing(const RequestRecord& record, bool utf8);

}  // namespace thaw::cli
