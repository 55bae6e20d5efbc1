#include "observe/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <mutex>
#include <sstream>
#include <unordered_map>

#include "wire/messages.h"

namespace thaw::observe {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

/// From a warm token to a slow start of a big model.
Histogram::BucketBoundaries latency_buckets() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};
}

constexpr std::array<const char*, 6> kClasses{"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  Family<Counter>& requests = BuildCounter().Name("thaw_requests_total").Help("Requests answered, by model and status class.").Register(registry);
  Family<Counter>& prompt_tokens = BuildCounter().Name("thaw_prompt_tokens_total").Help("Prompt tokens, as the engine counted them.").Register(registry);
  Family<Counter>& completion_tokens =
      BuildCounter().Name("thaw_generation_tokens_total").Help("Generated tokens, as the engine counted them.").Register(registry);
  Family<Histogram>& queue = BuildHistogram().Name("thaw_request_queue_time_seconds").Help("Wait for a replica.").Register(registry);
  Family<Histogram>& ttft =
      BuildHistogram().Name("thaw_time_to_first_token_seconds").Help("Arrival to the first byte of the answer, cold or warm.").Register(registry);
  Family<Histogram>& duration = BuildHistogram().Name("thaw_request_duration_seconds").Help("Arrival to the end of the answer.").Register(registry);
  Family<Histogram>& cold = BuildHistogram().Name("thaw_cold_start_seconds").Help("Start ordered to instance ready.").Register(registry);
  Family<Histogram>& phase = BuildHistogram().Name("thaw_cold_start_phase_seconds").Help("Parts of a cold start; they may overlap.").Register(registry);
  Family<Counter>& down = BuildCounter().Name("thaw_instance_failures_total").Help("Instances that ended unasked, by reason.").Register(registry);
  Family<Counter>& stopped = BuildCounter().Name("thaw_instance_stops_total").Help("Instances stopped by decision.").Register(registry);
  Family<Counter>& refusals = BuildCounter().Name("thaw_refusals_total").Help("Requests refused, by cause.").Register(registry);
  Family<Counter>& retries = BuildCounter().Name("thaw_request_retries_total").Help("Requests tried on another replica.").Register(registry);
  Counter& clients_left =
      BuildCounter().Name("thaw_client_disconnects_total").Help("Clients that left before their answer was complete.").Register(registry).Add({});
  Family<Gauge>& in_flight = BuildGauge().Name("thaw_num_requests_running").Help("Requests on a replica.").Register(registry);
  Family<Gauge>& queued = BuildGauge().Name("thaw_num_requests_waiting").Help("Requests waiting for a replica.").Register(registry);
  Family<Gauge>& instances = BuildGauge().Name("thaw_instances").Help("Instances by model and state.").Register(registry);
  Family<Gauge>& reserved = BuildGauge().Name("thaw_device_reserved_bytes").Help("Device memory held by instances.").Register(registry);
  Family<Gauge>& budget = BuildGauge().Name("thaw_device_budget_bytes").Help("Device memory that instances may hold.").Register(registry);
  Gauge& deployed = BuildGauge().Name("thaw_models").Help("Models deployed, asleep or not.").Register(registry).Add({});
  Gauge& connections = BuildGauge().Name("thaw_connections").Help("Open client connections.").Register(registry).Add({});
  Gauge& buffered = BuildGauge().Name("thaw_buffered_request_bytes").Help("Request bodies held.").Register(registry).Add({});
  Gauge& dropped = BuildGauge().Name("thaw_usage_rows_dropped").Help("Usage rows lost because the disk could not keep up.").Register(registry).Add({});

  std::mutex mutex;
  std::unordered_map<std::string, std::unique_ptr<ModelProbe>> probes;
  std::vector<std::pair<Family<Gauge>*, Gauge*>> transient;  ///< gauges of the last scrape, dropped at the next
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

ModelProbe* Metrics::model(const std::string& name) {
  const std::lock_guard lock(impl_->mutex);
  std::unique_ptr<ModelProbe>& probe = impl_->probes[name];
  if (probe) return probe.get();
  // The series themselves are made when the first request ends: a thousand sleeping models cost nothing.
  probe = std::make_unique<ModelProbe>();
  return probe.get();
}

namespace {
/// The label sets of one model's probe, filled at its first request.
void fill(ModelProbe& probe, const std::string& name, Family<Counter>& requests, Family<Counter>& prompt, Family<Counter>& completion,
          Family<Histogram>& queue, Family<Histogram>& ttft, Family<Histogram>& duration) {
  for (std::size_t i = 0; i < kClasses.size(); ++i) probe.by_class[i] = &requests.Add({{"model", name}, {"class", kClasses[i]}});
  probe.prompt_tokens = &prompt.Add({{"model", name}});
  probe.completion_tokens = &completion.Add({{"model", name}});
  probe.queue_seconds = &queue.Add({{"model", name}}, latency_buckets());
  probe.ttft_seconds[0] = &ttft.Add({{"model", name}, {"start", "warm"}}, latency_buckets());
  probe.ttft_seconds[1] = &ttft.Add({{"model", name}, {"start", "cold"}}, latency_buckets());
  probe.duration_seconds = &duration.Add({{"model", name}}, latency_buckets());
}
}  // namespace

void Metrics::request_finished(const std::string& name, ModelProbe& probe, const RequestNumbers& numbers) {
  if (probe.queue_seconds == nullptr)
    fill(probe, name, impl_->requests, impl_->prompt_tokens, impl_->completion_tokens, impl_->queue, impl_->ttft, impl_->duration);
  const int status_class = numbers.status / 100;
  probe.by_class[status_class >= 1 && status_class <= 5 ? status_class : 0]->Increment();
  if (numbers.prompt_tokens > 0) probe.prompt_tokens->Increment(static_cast<double>(numbers.prompt_tokens));
  if (numbers.completion_tokens > 0) probe.completion_tokens->Increment(static_cast<double>(numbers.completion_tokens));
  probe.queue_seconds->Observe(base::to_s(numbers.queued));
  if (numbers.first_byte.count() > 0) probe.ttft_seconds[numbers.cold ? 1 : 0]->Observe(base::to_s(numbers.first_byte));
  probe.duration_seconds->Observe(base::to_s(numbers.total));
}

void Metrics::cold_start(const std::string& model, base::Duration took, const std::vector<wire::Phase>& phases) {
  impl_->cold.Add({{"model", model}}, latency_buckets()).Observe(base::to_s(took));
  for (const auto& phase : phases)
    impl_->phase.Add({{"phase", phase.name}}, latency_buckets()).Observe(base::to_s(phase.duration));
}

void Metrics::instance_down(const std::string& model, const std::string& reason) {
  impl_->down.Add({{"model", model}, {"reason", reason}}).Increment();
}
void Metrics::instance_stopped(const std::string& model) { impl_->stopped.Add({{"model", model}}).Increment(); }
void Metrics::refused(const std::string& cause) { impl_->refusals.Add({{"cause", cause}}).Increment(); }
void Metrics::request_retried(const std::string& model) { impl_->retries.Add({{"model", model}}).Increment(); }
void Metrics::client_left() { impl_->clients_left.Increment(); }

std::string Metrics::scrape(const Levels& levels) {
  const std::lock_guard lock(impl_->mutex);
  for (const auto& [family, gauge] : impl_->transient) family->Remove(gauge);
  impl_->transient.clear();
  const auto level = [this](Family<Gauge>& family, const prometheus::Labels& labels, double value) {
    Gauge& gauge = family.Add(labels);
    gauge.Set(value);
    impl_->transient.emplace_back(&family, &gauge);
  };
  for (const auto& m : levels.models) {
    level(impl_->in_flight, {{"model", m.model}}, m.in_flight);
    level(impl_->queued, {{"model", m.model}}, m.queued);
    level(impl_->instances, {{"model", m.model}, {"state", "ready"}}, m.ready);
    level(impl_->instances, {{"model", m.model}, {"state", "starting"}}, m.starting);
  }
  for (const auto& d : levels.devices) {
    level(impl_->reserved, {{"node", d.node}, {"device", d.device}}, d.reserved_bytes);
    level(impl_->budget, {{"node", d.node}, {"device", d.device}}, d.budget_bytes);
  }
  impl_->deployed.Set(levels.deployed_models);
  impl_->connections.Set(levels.connections);
  impl_->buffered.Set(levels.buffered_bytes);
  impl_->dropped.Set(levels.usage_rows_dropped);
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, impl_->registry.Collect());
  return out.str();
}

}  // namespace thaw::observe
