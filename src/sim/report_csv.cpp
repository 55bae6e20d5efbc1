#include <fmt/format.h>

#include "sim/report.h"

namespace thaw::sim {

namespace {

std::string field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

std::string to_csv(const Trace& trace, const Experiment& experiment) {
  std::string csv = "policy,at_s,model,input_tokens,output_tokens,served,delay_s\n";
  for (const PolicyResult& result : experiment.results) {
    const Outcome& o = result.outcome;
    for (std::size_t n = 0; n < trace.requests.size(); ++n) {
      const TraceRequest& request = trace.requests[n];
      const bool refused = o.delay_s[n] == Outcome::kRefused;
      csv +=
          fmt::format("{},{:.6f},{},{},{},{},{}\n", field(o.policy), base::to_s(request.at),
                      field(trace.models[request.model]), request.input_tokens, request.output_tokens,
                      refused ? "refused" : to_string(o.served[n]), refused ? "" : fmt::format("{:.6f}", o.delay_s[n]));
    }
  }
  return csv;
}

}  // namespace thaw::sim
