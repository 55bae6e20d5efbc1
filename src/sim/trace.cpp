#include "sim/trace.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <unordered_map>

#include "sim/csv.h"
#include "sim/random.h"

namespace thaw::sim {

namespace {

using base::Error;
using base::ErrorKind;

constexpr double kMaxTokens = 100e6;
constexpr double kMaxDuration_s = 365.0 * 86'400;

struct Role {
  const char* what;
  const char* option;
  std::vector<std::string> known;  ///< names in public traces
};

const Role kTime{
    "times",
    "--time-col",
    {"TIMESTAMP", "timestamp", "time", "arrival", "arrival_time", "arrived_at", "gmt_create", "Timestamp"}};
const Role kModel{"models", "--model-col", {"model", "Model", "model_name", "checkpoint_model_version_id", "model_id"}};
const Role kInput{"input tokens",
                  "--input-col",
                  {"ContextTokens", "input_tokens", "prompt_tokens", "Request tokens", "input_length"}};
const Role kOutput{"output tokens",
                   "--output-col",
                   {"GeneratedTokens", "output_tokens", "completion_tokens", "Response tokens", "output_length"}};
const Role kDuration{
    "durations", "--duration-col", {"exec_time_seconds", "duration", "duration_s", "duration_seconds"}};
const Role kTenant{"tenants", "--tenant-col", {"tenant", "tenant_id"}};
const Role kPriority{"priorities", "--priority-col", {"priority"}};

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// The column's place; absent when nobody asked for it and no known name is there.
base::Result<std::optional<std::size_t>> find_column(const std::vector<std::string>& header, const std::string& wanted,
                                                     const Role& role, const std::string& file) {
  const auto place = [&](const std::string& name) -> std::optional<std::size_t> {
    const auto found = std::find(header.begin(), header.end(), name);
    if (found == header.end()) return std::nullopt;
    return static_cast<std::size_t>(found - header.begin());
  };
  if (!wanted.empty()) {
    if (const auto at = place(wanted)) return at;
    return Error{ErrorKind::invalid,
                 file + ":1: there is no column \"" + wanted + "\" for " + role.what + "; there are " + joined(header)};
  }
  for (const std::string& name : role.known) {
    if (const auto at = place(name)) return at;
  }
  return std::optional<std::size_t>{};
}

base::Result<double> parse_number(std::string_view text, double max) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value))
    return Error{ErrorKind::invalid, "\"" + std::string(text.substr(0, 64)) + "\" is no number"};
  if (value < 0 || value > max)
    return Error{ErrorKind::invalid, "\"" + std::string(text.substr(0, 64)) + "\" is out of range"};
  return value;
}

struct Places {
  std::size_t time = 0;
  std::optional<std::size_t> model, input, output, duration, tenant, priority;
};

base::Result<Places> find_places(const std::vector<std::string>& header, const Columns& columns,
                                 const std::string& file) {
  Places places;
  THAW_ASSIGN_OR_RETURN(const auto time, find_column(header, columns.time, kTime, file));
  if (!time)
    return Error{ErrorKind::invalid, file + ":1: no column of times: none of " + joined(kTime.known) +
                                         "; name it with --time-col (there are " + joined(header) + ")"};
  places.time = *time;
  THAW_ASSIGN_OR_RETURN(places.model, find_column(header, columns.model, kModel, file));
  THAW_ASSIGN_OR_RETURN(places.input, find_column(header, columns.input, kInput, file));
  THAW_ASSIGN_OR_RETURN(places.output, find_column(header, columns.output, kOutput, file));
  THAW_ASSIGN_OR_RETURN(places.duration, find_column(header, columns.duration, kDuration, file));
  THAW_ASSIGN_OR_RETURN(places.tenant, find_column(header, columns.tenant, kTenant, file));
  THAW_ASSIGN_OR_RETURN(places.priority, find_column(header, columns.priority, kPriority, file));
  if (!places.duration && !places.input && !places.output)
    return Error{ErrorKind::invalid,
                 file +
                     ":1: no column says how much work a request is; name one with --input-col, --output-col or "
                     "--duration-col (there are " +
                     joined(header) + ")"};
  return places;
}

/// Reads rows into a trace whose times are still absolute.
class RowReader {
 public:
  RowReader(const Places& places, Trace& trace) : places_(places), trace_(trace) {
    trace_.durations = places.duration.has_value();
  }

  base::Status read(const std::vector<std::string>& row) {
    const auto cell = [&](std::size_t at) -> std::string_view {
      return at < row.size() ? std::string_view(row[at]) : std::string_view();
    };
    if ((places_.model && cell(*places_.model).empty()) || (places_.duration && cell(*places_.duration).empty())) {
      ++trace_.skipped;
      return {};
    }
    TraceRequest request;
    THAW_ASSIGN_OR_RETURN(request.at, parse_time(cell(places_.time)));
    THAW_ASSIGN_OR_RETURN(request.model, model(places_.model ? std::string(cell(*places_.model)) : "model"));
    THAW_ASSIGN_OR_RETURN(request.input_tokens, tokens(places_.input, row));
    THAW_ASSIGN_OR_RETURN(request.output_tokens, tokens(places_.output, row));
    if (places_.duration) {
      THAW_ASSIGN_OR_RETURN(const double seconds, parse_number(cell(*places_.duration), kMaxDuration_s));
      request.duration = base::Duration(std::llround(seconds * 1e9));
    }
    if (places_.tenant) {
      THAW_ASSIGN_OR_RETURN(request.tenant, tenant(std::string(cell(*places_.tenant))));
    }
    if (places_.priority && !cell(*places_.priority).empty()) {
      THAW_ASSIGN_OR_RETURN(request.priority, priority(cell(*places_.priority)));
    }
    if (trace_.requests.size() >= kMaxTraceRequests)
      return Error{ErrorKind::exhausted, "more than 50,000,000 requests; cut the trace"};
    trace_.requests.push_back(request);
    return {};
  }

 private:
  base::Result<ModelIndex> model(const std::string& name) {
    const auto [found, fresh] = models_.try_emplace(name, static_cast<ModelIndex>(trace_.models.size()));
    if (!fresh) return found->second;
    if (trace_.models.size() >= kMaxTraceModels)
      return Error{ErrorKind::exhausted, "more than 1,000,000 models; cut the trace"};
    trace_.models.push_back(name);
    return found->second;
  }

  /// Whoever is not named is "default".
  base::Result<TenantIndex> tenant(const std::string& name) {
    const std::string called = name.empty() ? "default" : name;
    const auto [found, fresh] = tenants_.try_emplace(called, static_cast<TenantIndex>(trace_.tenants.size()));
    if (!fresh) return found->second;
    if (trace_.tenants.size() >= kMaxTraceTenants)
      return Error{ErrorKind::exhausted, "more than 10,000 tenants; is --tenant-col the right column?"};
    trace_.tenants.push_back(called);
    return found->second;
  }

  static base::Result<spec::Priority> priority(std::string_view text) {
    for (const auto level : {spec::Priority::low, spec::Priority::normal, spec::Priority::high}) {
      if (text == spec::to_string(level)) return level;
    }
    return Error{ErrorKind::invalid, "\"" + std::string(text.substr(0, 64)) + "\" is no priority; low, normal, high or nothing"};
  }

  static base::Result<std::uint32_t> tokens(const std::optional<std::size_t>& place,
                                            const std::vector<std::string>& row) {
    if (!place || *place >= row.size() || row[*place].empty()) return 0U;
    THAW_ASSIGN_OR_RETURN(const double count, parse_number(row[*place], kMaxTokens));
    return static_cast<std::uint32_t>(count);
  }

  Places places_;
  Trace& trace_;
  std::unordered_map<std::string, ModelIndex> models_;
  std::unordered_map<std::string, TenantIndex> tenants_;
};

void make_relative(Trace& trace) {
  std::stable_sort(trace.requests.begin(), trace.requests.end(),
                   [](const TraceRequest& a, const TraceRequest& b) { return a.at < b.at; });
  if (trace.requests.empty()) return;
  const base::Duration first = trace.requests.front().at;
  for (TraceRequest& request : trace.requests) request.at -= first;
}

}  // namespace

base::Result<Trace> read_trace(std::string_view csv, const std::string& file, const Columns& columns) {
  CsvReader reader(csv);
  std::vector<std::string> row;
  if (!reader.next(row)) return Error{ErrorKind::invalid, file + ": empty; the first line must name the columns"};
  THAW_ASSIGN_OR_RETURN(const Places places, find_places(row, columns, file));
  Trace trace;
  trace.name = file;
  RowReader rows(places, trace);
  while (reader.next(row)) {
    if (row.size() == 1 && row.front().empty()) continue;
    if (const auto status = rows.read(row); !status.ok())
      return status.error().within(file + ":" + std::to_string(reader.line()));
  }
  if (reader.broken())
    return Error{ErrorKind::invalid, file + ":" + std::to_string(reader.line()) + ": a quoted field has no end"};
  if (trace.requests.empty()) return Error{ErrorKind::invalid, file + ": it has no requests"};
  make_relative(trace);
  return trace;
}

Trace spread(Trace trace, std::uint32_t models, double exponent, std::uint64_t seed) {
  Random random(seed);
  const Zipf zipf(models, exponent);
  for (TraceRequest& request : trace.requests) request.model = zipf.draw(random);
  trace.models.clear();
  for (std::uint32_t n = 0; n < models; ++n) trace.models.push_back("model-" + std::to_string(n));
  return trace;
}

base::Result<Spread> parse_spread(std::string_view text, std::uint64_t default_seed) {
  const Error wrong{ErrorKind::invalid,
                    "\"" + std::string(text.substr(0, 64)) +
                        "\" is no spread; write it like 100:zipf:7 (models, law, seed) or 100:zipf(1.1):7"};
  Spread spread;
  const std::size_t first = text.find(':');
  if (first == std::string_view::npos) return wrong;
  const std::size_t last = text.find(':', first + 1);
  const auto whole = [](std::string_view part, auto& into) {
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), into);
    return error == std::errc{} && end == part.data() + part.size();
  };
  spread.seed = default_seed;
  std::string_view law = text.substr(first + 1, last == std::string_view::npos ? last : last - first - 1);
  if (!whole(text.substr(0, first), spread.models)) return wrong;
  if (last != std::string_view::npos && !whole(text.substr(last + 1), spread.seed)) return wrong;
  if (spread.models == 0 || spread.models > kMaxTraceModels || !law.starts_with("zipf")) return wrong;
  law.remove_prefix(4);
  if (law.empty()) return spread;
  if (law.size() < 3 || law.front() != '(' || law.back() != ')') return wrong;
  const auto exponent = parse_number(law.substr(1, law.size() - 2), 10);
  if (!exponent.ok()) return wrong;
  spread.exponent = *exponent;
  return spread;
}

}  // namespace thaw::sim
