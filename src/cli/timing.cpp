#include "cli/timing.h"

#include <fmt/format.h>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/json.h"
#include "cli/terminal.h"

namespace thaw::cli {
namespace {

constexpr int kMaxAttempts = 20;
constexpr base::Duration kRetryPause = base::Millis(50);
constexpr double kWorthTelling_ms = 1;

}  // namespace

base::Result<RequestRecord> parse_record(std::string_view body) {
  THAW_ASSIGN_OR_RETURN(const boost::json::object answer, parse_object(body, "the server"));
  RequestRecord record;
  record.done = answer.contains("done") ? flag_of(answer, "done") : true;
  record.cold = flag_of(answer, "cold");
  record.way = text_of(answer, "way");
  record.why = text_of(answer, "why");
  record.queued_ms = number_of(answer, "queued_ms").value_or(0);
  record.ttft_ms = number_of(answer, "ttft_ms");
  record.total_ms = number_of(answer, "total_ms").value_or(0);
  record.prompt_tokens = count_of(answer, "prompt_tokens");
  record.completion_tokens = count_of(answer, "completion_tokens");
  record.attempts = count_of(answer, "attempts");
  for (const auto* phase : objects_of(answer, "phases")) {
    record.phases.push_back({text_of(*phase, "name"), number_of(*phase, "start_ms").value_or(0),
                             number_of(*phase, "duration_ms").value_or(0)});
    if (phase->contains("read_bytes"))
      record.weights = {count_of(*phase, "read_bytes"), count_of(*phase, "resident_bytes"), record.phases.back().duration_ms};
  }
  return record;
}

base::Result<RequestRecord> fetch_record(const Client& client, const std::string& request_id,
                                         const Interrupt& interrupt, std::string* raw) {
  base::Result<RequestRecord> last = base::Error{base::ErrorKind::not_found, "the server sent no x-request-id"};
  if (request_id.empty()) return last;
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    if (attempt > 0 && interrupt.wait_for(kRetryPause)) break;
    auto response = client.send({"GET", "/admin/v1/requests/" + percent_encode(request_id), ""});
    if (!response.ok()) {
      last = response.error();
      if (response.error().kind != base::ErrorKind::not_found) break;
      continue;
    }
    last = parse_record(response->body);
    if (!last.ok()) break;
    *raw = std::move(response->body);
    if (last->done) break;
  }
  return last;
}

std::optional<double> tokens_per_second(std::uint64_t tokens, double first_ms, double end_ms) {
  constexpr double kLeast_ms = 1;  // less: they came in one piece, and their time was spent before
  if (tokens < 2 || end_ms - first_ms < kLeast_ms) return std::nullopt;
  return static_cast<double>(tokens - 1) * 1000 / (end_ms - first_ms);
}

namespace {

std::string weights_line(const WeightsRead& weights) {
  if (weights.read_bytes == 0) return fmt::format("weights      in memory already ({})\n", base::format_bytes(weights.resident_bytes));
  std::string text = fmt::format("weights      {} read in {}", base::format_bytes(weights.read_bytes), format_ms(weights.duration_ms));
  if (weights.duration_ms > 0)
    text += fmt::format(" ({:.2f} GB/s)", static_cast<double>(weights.read_bytes) / weights.duration_ms / 1e6);
  if (weights.resident_bytes > 0) text += fmt::format(", {} in memory already", base::format_bytes(weights.resident_bytes));
  return text + "\n";
}

}  // namespace

std::string render_timing(const RequestRecord& record, bool utf8) {
  std::string text = fmt::format("tokens       {} in, {} out", record.prompt_tokens, record.completion_tokens);
  if (record.ttft_ms) {
    if (const auto rate = tokens_per_second(record.completion_tokens, *record.ttft_ms, record.total_ms))
      text += fmt::format(", {:.1f} tokens/s", *rate);
  }
  text += fmt::format("\nstart        {}", record.cold ? "cold" : "warm");
  if (record.queued_ms >= kWorthTelling_ms)
    text += fmt::format(", waited {} for a replica", format_ms(record.queued_ms));
  text += "\n";
  if (record.cold && !record.way.empty())
    text += fmt::format("way up       {}{}\n", record.way, record.why.empty() ? "" : ": " + record.why);
  if (record.ttft_ms) text += fmt::format("first token  {}\n", format_ms(*record.ttft_ms));
  text += fmt::format("total        {}\n", format_ms(record.total_ms));
  if (record.attempts > 1) text += fmt::format("attempts     {} (the first failed and was retried)\n", record.attempts);
  if (record.weights) text += weights_line(*record.weights);
  const std::string chart = render_gantt(record.phases, utf8);
  return chart.empty() ? text : text + "\n" + chart;
}

}  // namespace thaw::cli
