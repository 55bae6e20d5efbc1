#include "sim/generate.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include "base/units.h"
#include "sim/random.h"
#include "spec/parse.h"

namespace thaw::sim {

namespace {

constexpr double kTwoPi = 6.283185307179586;
constexpr double kDay_s = 86'400;

/// When the day's rhythm has let through what an even rate lets through in `even_s`: the inverse of t + a P/2pi (1 -
/// cos(2 pi t / P)), which grows.
double warped(double even_s, double amplitude) {
  if (amplitude <= 0) return even_s;
  const auto passed = [&](double t) { return t + amplitude * kDay_s / kTwoPi * (1 - std::cos(kTwoPi * t / kDay_s)); };
  double low = std::max(even_s - amplitude * kDay_s / kTwoPi * 2, 0.0), high = even_s;
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2;
    (passed(middle) < even_s ? low : high) = middle;
  }
  return high;
}

base::Duration from_seconds(double s) {
  return base::Duration(std::llround(s * 1e9));
}

void generate_model(const Synthetic& s, ModelIndex model, double rate_per_s, Random& random, Trace& trace) {
  const double shape = 1.0 / (s.cv * s.cv), scale = 1.0 / (rate_per_s * shape);
  const double span_s = base::to_s(s.span);
  const auto tokens = [&](std::uint32_t mean) {
    return static_cast<std::uint32_t>(std::clamp(random.exponential(mean), 1.0, 20.0 * mean + 1));
  };
  // The process began long before the trace: the gap that is going on is drawn by its length, and the trace begins
  // somewhere in it.
  double even_s = random.gamma(shape + 1, scale) * random.uniform();
  while (trace.requests.size() < kMaxTraceRequests) {
    const double at_s = warped(even_s, s.diurnal);
    if (at_s >= span_s) return;
    TraceRequest request;
    request.at = from_seconds(at_s);
    request.model = model;
    if (s.duration > base::Duration{}) {
      request.duration = from_seconds(random.exponential(base::to_s(s.duration)));
    } else {
      request.input_tokens = tokens(s.input_tokens);
      request.output_tokens = tokens(s.output_tokens);
    }
    trace.requests.push_back(request);
    even_s += random.gamma(shape, scale);
  }
}

}  // namespace

Trace generate(const Synthetic& s) {
  Trace trace;
  trace.name = "synthetic";
  trace.durations = s.duration > base::Duration{};
  const Zipf zipf(s.models, s.zipf);
  const double rate_per_s = s.requests / base::to_s(s.span);
  for (ModelIndex model = 0; model < s.models; ++model) {
    trace.models.push_back("model-" + std::to_string(model));
    Random random(mix(s.seed) + model);  // a model's requests do not depend on how many others there are
    generate_model(s, model, rate_per_s * zipf.share(model), random, trace);
  }
  std::stable_sort(trace.requests.begin(), trace.requests.end(),
                   [](const TraceRequest& a, const TraceRequest& b) { return a.at < b.at; });
  return trace;
}

base::Result<Synthetic> parse_synthetic(std::string_view text, std::uint64_t default_seed) {
  Synthetic s;
  s.seed = default_seed;
  using Set = std::function<bool(std::string_view)>;
  const auto whole = [](auto& into, std::uint64_t min, std::uint64_t max) -> Set {
    return [&into, min, max](std::string_view value) {
      std::uint64_t number = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      if (error != std::errc{} || end != value.data() + value.size() || number < min || number > max) return false;
      into = static_cast<std::decay_t<decltype(into)>>(number);
      return true;
    };
  };
  const auto real = [](double& into, double min, double max) -> Set {
    return [&into, min, max](std::string_view value) {
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), into);
      return error == std::errc{} && end == value.data() + value.size() && into >= min && into <= max;
    };
  };
  const auto time = [](base::Duration& into) -> Set {
    return [&into](std::string_view value) {
      const auto parsed = base::parse_duration(value);
      if (!parsed.ok() || *parsed <= base::Duration{}) return false;
      into = *parsed;
      return true;
    };
  };
  const std::vector<std::pair<std::string, Set>> keys{{"requests", whole(s.requests, 1, kMaxTraceRequests)},
                                                      {"models", whole(s.models, 1, kMaxTraceModels)},
                                                      {"span", time(s.span)},
                                                      {"cv", real(s.cv, 0.1, 20)},
                                                      {"zipf", real(s.zipf, 0, 5)},
                                                      {"diurnal", real(s.diurnal, 0, 1)},
                                                      {"input", whole(s.input_tokens, 1, 1'000'000)},
                                                      {"output", whole(s.output_tokens, 1, 1'000'000)},
                                                      {"duration", time(s.duration)},
                                                      {"seed", whole(s.seed, 0, UINT64_MAX)}};
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    const std::string_view part = text.substr(from, comma - from);
    from = comma + 1;
    const std::size_t equals = std::min(part.find('='), part.size());
    const std::string key(part.substr(0, equals));
    const auto found = std::find_if(keys.begin(), keys.end(), [&](const auto& k) { return k.first == key; });
    if (found == keys.end()) {
      std::string all;
      for (const auto& [name, set] : keys) all += (all.empty() ? "" : ", ") + name;
      return base::Error{base::ErrorKind::invalid,
                         "\"" + key + "\" is nothing that a synthetic trace has; it has " + all};
    }
    if (equals == part.size() || !found->second(part.substr(equals + 1)))
      return base::Error{base::ErrorKind::invalid,
                         "\"" + std::string(part) +
                             "\": no value for it, or one out of range; write it like "
                             "requests=100000,models=1000,span=24h,cv=4,zipf=1.1,diurnal=0.5"};
  }
  return s;
}

}  // namespace thaw::sim
