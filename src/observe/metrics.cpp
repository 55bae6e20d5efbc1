#include "observe/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <limits>
#include <mutex>
#include <sstream>
#include <unordered_map>

#include "base/revision.h"
#include "observe/model_probe.h"
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

/// The model as its users call it, and whose engines of it they are: those of its first revision have no label for that.
prometheus::Labels of_model(const std::string& runs_as, prometheus::Labels more = {}) {
  more["model"] = base::model_of(base::ModelName(runs_as)).str();
  if (const std::uint32_t revision = base::revision_part(runs_as); revision > 1) more["revision"] = std::to_string(revision);
  return more;
}

Histogram::BucketBoundaries latency_buckets() {
  return {kLatencyBuckets_s.begin(), kLatencyBuckets_s.end()};
}

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

ClientMetric labelled(const prometheus::Labels& labels) {
  ClientMetric metric;
  for (const auto& [name, value] : labels) metric.label.push_back({name, value});
  return metric;
}

void add_counter(MetricFamily& family, const prometheus::Labels& labels, const Tally& tally) {
  ClientMetric metric = labelled(labels);
  metric.counter.value = static_cast<double>(tally.value());
  family.metric.push_back(std::move(metric));
}

void add_histogram(MetricFamily& family, const prometheus::Labels& labels, const LatencyTally& tally) {
  ClientMetric metric = labelled(labels);
  std::uint64_t cumulative = 0;
  for (std::size_t i = 0; i <= kLatencyBuckets_s.size(); ++i) {
    cumulative += tally.count(i);
    const double bound = i < kLatencyBuckets_s.size() ? kLatencyBuckets_s[i] : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back({cumulative, bound});
  }
  metric.histogram.sample_count = cumulative;
  metric.histogram.sample_sum = tally.sum_s();
  family.metric.push_back(std::move(metric));
}

/// What every request adds to, for all models that were asked.
std::vector<MetricFamily> request_families(const std::unordered_map<std::string, std::unique_ptr<ModelProbe>>& probes) {
  MetricFamily requests{
      "thaw_requests_total", "Requests answered, by model and status class.", MetricType::Counter, {}};
  MetricFamily prompt{
      "thaw_prompt_tokens_total", "Prompt tokens, as the engine counted them.", MetricType::Counter, {}};
  MetricFamily completion{
      "thaw_generation_tokens_total", "Generated tokens, as the engine counted them.", MetricType::Counter, {}};
  MetricFamily queue{"thaw_request_queue_time_seconds", "Wait for a replica.", MetricType::Histogram, {}};
  MetricFamily ttft{"thaw_time_to_first_token_seconds",
                    "Arrival to the first byte of the answer, by how it found its replica.",
                    MetricType::Histogram,
                    {}};
  MetricFamily duration{
      "thaw_request_duration_seconds", "Arrival to the end of the answer.", MetricType::Histogram, {}};
  for (const auto& [name, probe] : probes) {
    if (!probe->used()) continue;
    for (std::size_t i = 0; i < kStatusClasses.size(); ++i)
      add_counter(requests, of_model(name, {{"class", kStatusClasses[i]}}), probe->by_class[i]);
    add_counter(prompt, of_model(name), probe->prompt_tokens);
    add_counter(completion, of_model(name), probe->completion_tokens);
    add_histogram(queue, of_model(name), probe->queue);
    for (const Found found : {Found::warm, Found::cold, Found::restored, Found::woken}) {
      const LatencyTally& tally = probe->first_byte[static_cast<std::size_t>(found)];
      const bool always = found == Found::warm || found == Found::cold;
      if (always || tally.sum_s() > 0) add_histogram(ttft, of_model(name, {{"start", to_string(found)}}), tally);
    }
    add_histogram(duration, of_model(name), probe->duration);
  }
  std::vector<MetricFamily> families;
  for (MetricFamily* family : {&requests, &prompt, &completion, &queue, &ttft, &duration}) {
    if (!family->metric.empty()) families.push_back(std::move(*family));
  }
  return families;
}

/// A transition as an instance's way from one state to another.
struct Ends {
  const char *from, *to, *name;
};
Ends ends_of(Transition transition) {
  switch (transition) {
    case Transition::start: return {"nothing", "ready", "start"};
    case Transition::restore: return {"image", "ready", "restore"};
    case Transition::wake: return {"standby", "ready", "wake"};
    case Transition::freeze: return {"ready", "standby", "freeze"};
    case Transition::snapshot: return {"nothing", "image", "snapshot"};
  }
  return {"nothing", "nothing", "unknown"};
}

}  // namespace

const char* to_string(Found found) {
  switch (found) {
    case Found::warm: return "warm";
    case Found::cold: return "cold";
    case Found::restored: return "restore";
    case Found::woken: return "wake";
  }
  return "warm";
}

struct Metrics::Impl {
  prometheus::Registry registry;
  Family<Histogram>& cold =
      BuildHistogram().Name("thaw_cold_start_seconds").Help("Start ordered to instance ready.").Register(registry);
  Family<Histogram>& phase = BuildHistogram()
                                 .Name("thaw_cold_start_phase_seconds")
                                 .Help("Parts of a cold start; they may overlap.")
                                 .Register(registry);
  Family<Counter>& transitions = BuildCounter()
                                     .Name("thaw_transitions_total")
                                     .Help("Transitions of instances that ended, by result.")
                                     .Register(registry);
  Family<Histogram>& transition_seconds = BuildHistogram()
                                              .Name("thaw_transition_seconds")
                                              .Help("Ordered to done, of transitions that succeeded.")
                                              .Register(registry);
  Counter& images_gone = BuildCounter()
                             .Name("thaw_images_gone_total")
                             .Help("Images dropped or found unusable.")
                             .Register(registry)
                             .Add({});
  Family<Counter>& down = BuildCounter()
                              .Name("thaw_instance_failures_total")
                              .Help("Instances that ended unasked, by reason.")
                              .Register(registry);
  Family<Counter>& stopped =
      BuildCounter().Name("thaw_instance_stops_total").Help("Instances stopped by decision.").Register(registry);
  Family<Counter>& refusals =
      BuildCounter().Name("thaw_refusals_total").Help("Requests refused, by cause.").Register(registry);
  Family<Counter>& retries =
      BuildCounter().Name("thaw_request_retries_total").Help("Requests tried on another replica.").Register(registry);
  Family<Counter>& file_changes = BuildCounter()
                                      .Name("thaw_model_file_changes_total")
                                      .Help("Files of models that were found changed.")
                                      .Register(registry);
  Family<Counter>& not_verified = BuildCounter()
                                      .Name("thaw_model_file_mismatches_total")
                                      .Help("Files whose digest was not the recorded one.")
                                      .Register(registry);
  Counter& clients_left = BuildCounter()
                              .Name("thaw_client_disconnects_total")
                              .Help("Clients that left before their answer was complete.")
                              .Register(registry)
                              .Add({});
  Counter& evictions = BuildCounter()
                           .Name("thaw_host_cache_evictions_total")
                           .Help("Times that weights were taken out of the page cache.")
                           .Register(registry)
                           .Add({});
  Counter& evicted = BuildCounter()
                         .Name("thaw_host_cache_evicted_bytes_total")
                         .Help("Bytes of weights that left the page cache so.")
                         .Register(registry)
                         .Add({});
  Counter& evictions_failed = BuildCounter()
                                  .Name("thaw_host_cache_eviction_failures_total")
                                  .Help("Evictions after which weights stayed.")
                                  .Register(registry)
                                  .Add({});
  Gauge& cache = BuildGauge()
                     .Name("thaw_host_cache_bytes")
                     .Help("Weights in the page cache, but for those of CPU replicas.")
                     .Register(registry)
                     .Add({});
  Gauge& cache_budget = BuildGauge()
                            .Name("thaw_host_cache_budget_bytes")
                            .Help("Weights that may be in the page cache now.")
                            .Register(registry)
                            .Add({});
  Family<Gauge>& in_flight =
      BuildGauge().Name("thaw_num_requests_running").Help("Requests on a replica.").Register(registry);
  Family<Gauge>& queued =
      BuildGauge().Name("thaw_num_requests_waiting").Help("Requests waiting for a replica.").Register(registry);
  Family<Gauge>& instances =
      BuildGauge().Name("thaw_instances").Help("Instances by model and state.").Register(registry);
  Family<Gauge>& reserved =
      BuildGauge().Name("thaw_device_reserved_bytes").Help("Device memory held by instances.").Register(registry);
  Family<Gauge>& budget =
      BuildGauge().Name("thaw_device_budget_bytes").Help("Device memory that instances may hold.").Register(registry);
  Family<Gauge>& host_reserved = BuildGauge()
                                     .Name("thaw_host_reserved_bytes")
                                     .Help("Host memory that instances hold beside their devices'.")
                                     .Register(registry);
  Family<Gauge>& host_budget =
      BuildGauge().Name("thaw_host_budget_bytes").Help("Host memory that may be so held.").Register(registry);
  Family<Gauge>& images = BuildGauge().Name("thaw_images").Help("Images on a node.").Register(registry);
  Family<Gauge>& image_reserved = BuildGauge()
                                      .Name("thaw_image_reserved_bytes")
                                      .Help("Disk of images and of those being made.")
                                      .Register(registry);
  Family<Gauge>& image_budget =
      BuildGauge().Name("thaw_image_budget_bytes").Help("Disk that images may take.").Register(registry);
  Gauge& deployed = BuildGauge().Name("thaw_models").Help("Models deployed, asleep or not.").Register(registry).Add({});
  Gauge& changed_models = BuildGauge()
                              .Name("thaw_models_changed")
                              .Help("Models of which a file is not as deployed, or gone.")
                              .Register(registry)
                              .Add({});
  Gauge& connections =
      BuildGauge().Name("thaw_connections").Help("Open client connections.").Register(registry).Add({});
  Gauge& buffered =
      BuildGauge().Name("thaw_buffered_request_bytes").Help("Request bodies held.").Register(registry).Add({});
  Gauge& dropped = BuildGauge()
                       .Name("thaw_usage_rows_dropped")
                       .Help("Usage rows lost because the disk could not keep up.")
                       .Register(registry)
                       .Add({});

  Counter& audit_records = BuildCounter().Name("thaw_audit_records_total").Help("Records written to the audit log.").Register(registry).Add({});
  Counter& audit_failures = BuildCounter()
                                .Name("thaw_audit_failures_total")
                                .Help("Records that the audit log could not take: administrative acts are refused.")
                                .Register(registry)
                                .Add({});
  Counter& audit_export_failures = BuildCounter()
                                       .Name("thaw_audit_export_failures_total")
                                       .Help("Signed heads of the audit log that could not be left or exported.")
                                       .Register(registry)
                                       .Add({});

  Family<Counter>& affinity = BuildCounter()
                                  .Name("thaw_affinity_requests_total")
                                  .Help("Requests with an affinity for one of several replicas, by whether they went there or its load sent them elsewhere.")
                                  .Register(registry);
  Counter& affinity_followed = affinity.Add({{"went", "there"}});
  Counter& affinity_spilled = affinity.Add({{"went", "elsewhere"}});
  Counter& ejections = BuildCounter()
                           .Name("thaw_replica_ejections_total")
                           .Help("Times that a replica got no new requests for a while because it answered worse than the others.")
                           .Register(registry)
                           .Add({});
  Counter& retries_denied = BuildCounter()
                                .Name("thaw_retries_denied_total")
                                .Help("Requests that were not tried again because too many of their model's had been.")
                                .Register(registry)
                                .Add({});

  Family<Counter>& pulls_ended =
      BuildCounter().Name("thaw_pulls_total").Help("Pulls of models' files that ended, by result.").Register(registry);
  Counter& pulled = BuildCounter().Name("thaw_pull_bytes_total").Help("Bytes of models' files fetched over the network.").Register(registry).Add({});
  Gauge& pulls_running = BuildGauge().Name("thaw_pulls_running").Help("Pulls under way.").Register(registry).Add({});
  Gauge& pulls_waiting = BuildGauge().Name("thaw_pulls_waiting").Help("Pulls that wait for others.").Register(registry).Add({});
  Gauge& pull_rate = BuildGauge().Name("thaw_pull_bytes_per_second").Help("Rate of all pulls together, of late.").Register(registry).Add({});
  Counter& egress_connections =
      BuildCounter().Name("thaw_egress_connections_total").Help("Connections of engines through their egress proxy.").Register(registry).Add({});
  Counter& egress_refused =
      BuildCounter().Name("thaw_egress_refused_total").Help("Connections of engines that were refused.").Register(registry).Add({});
  Gauge& store_bytes = BuildGauge().Name("thaw_pull_store_bytes").Help("Disk taken by what was pulled, unfinished pulls included.").Register(registry).Add({});
  Gauge& fills = BuildGauge().Name("thaw_weights_fills").Help("Models whose weights are being read into memory now.").Register(registry).Add({});
  Family<Counter>& weights = BuildCounter()
                                 .Name("thaw_weights_bytes_total")
                                 .Help("Weights asked for by starts: read ahead of the engine, found in memory, left to the engine for lack of memory.")
                                 .Register(registry);
  Counter& weights_read = weights.Add({{"from", "disk"}});
  Counter& weights_resident = weights.Add({{"from", "memory"}});
  Counter& weights_left = weights.Add({{"from", "left"}});

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
  probe = std::make_unique<ModelProbe>();
  return probe.get();
}

void Metrics::request_finished(ModelProbe& probe, const RequestNumbers& numbers) {
  const int status_class = numbers.status / 100;
  probe.by_class[static_cast<std::size_t>(status_class >= 1 && status_class <= 5 ? status_class : 0)].add(1);
  probe.prompt_tokens.add(numbers.prompt_tokens);
  probe.completion_tokens.add(numbers.completion_tokens);
  probe.queue.observe(numbers.queued);
  if (numbers.first_byte.count() > 0) probe.first_byte[static_cast<std::size_t>(numbers.found)].observe(numbers.first_byte);
  probe.duration.observe(numbers.total);
}

void Metrics::cold_start(const std::string& model, base::Duration took, const std::vector<wire::Phase>& phases) {
  impl_->cold.Add(of_model(model), latency_buckets()).Observe(base::to_s(took));
  for (const auto& phase : phases) cold_start_phase(phase);
}

void Metrics::cold_start_phase(const wire::Phase& phase) {
  impl_->phase.Add({{"phase", phase.name}}, latency_buckets()).Observe(base::to_s(phase.duration));
}

void Metrics::transition(Transition transition, const std::string& result, base::Duration took) {
  const Ends ends = ends_of(transition);
  impl_->transitions.Add({{"from", ends.from}, {"to", ends.to}, {"result", result}}).Increment();
  if (result == "ok") impl_->transition_seconds.Add({{"transition", ends.name}}, latency_buckets()).Observe(base::to_s(took));
}

void Metrics::image_gone() { impl_->images_gone.Increment(); }

void Metrics::instance_down(const std::string& model, const std::string& reason) {
  impl_->down.Add(of_model(model, {{"reason", reason}})).Increment();
}
void Metrics::instance_stopped(const std::string& model) {
  impl_->stopped.Add(of_model(model)).Increment();
}
void Metrics::refused(const std::string& cause) {
  impl_->refusals.Add({{"cause", cause}}).Increment();
}
void Metrics::request_retried(const std::string& model) {
  impl_->retries.Add(of_model(model)).Increment();
}
void Metrics::file_changed(const std::string& model) {
  impl_->file_changes.Add(of_model(model)).Increment();
}
void Metrics::file_not_verified(const std::string& model) {
  impl_->not_verified.Add(of_model(model)).Increment();
}
void Metrics::pull_ended(const std::string& result) {
  impl_->pulls_ended.Add({{"result", result}}).Increment();
}
void Metrics::weights_evicted(std::uint64_t bytes, bool failed) {
  if (bytes > 0) impl_->evictions.Increment();
  impl_->evicted.Increment(static_cast<double>(bytes));
  if (failed) impl_->evictions_failed.Increment();
}
void Metrics::client_left() {
  impl_->clients_left.Increment();
}

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
    level(impl_->in_flight, of_model(m.model), m.in_flight);
    level(impl_->queued, of_model(m.model), m.queued);
    level(impl_->instances, of_model(m.model, {{"state", "ready"}}), m.ready);
    level(impl_->instances, of_model(m.model, {{"state", "starting"}}), m.starting);
    const std::pair<const char*, double> others[] = {{"freezing", m.freezing}, {"standby", m.standby}, {"waking", m.waking}};
    for (const auto& [state, count] : others)
      if (count > 0) level(impl_->instances, of_model(m.model, {{"state", state}}), count);
  }
  for (const auto& d : levels.devices) {
    level(impl_->reserved, {{"node", d.node}, {"device", d.device}}, d.reserved_bytes);
    level(impl_->budget, {{"node", d.node}, {"device", d.device}}, d.budget_bytes);
  }
  impl_->cache.Set(levels.host_cache_bytes);
  impl_->cache_budget.Set(levels.host_cache_budget_bytes);
  for (const auto& n : levels.nodes) {
    level(impl_->host_reserved, {{"node", n.node}}, n.host_reserved_bytes);
    level(impl_->host_budget, {{"node", n.node}}, n.host_budget_bytes);
    level(impl_->images, {{"node", n.node}}, n.images);
    level(impl_->image_reserved, {{"node", n.node}}, n.image_reserved_bytes);
    level(impl_->image_budget, {{"node", n.node}}, n.image_budget_bytes);
  }
  impl_->deployed.Set(levels.deployed_models);
  impl_->changed_models.Set(levels.changed_models);
  impl_->connections.Set(levels.connections);
  impl_->buffered.Set(levels.buffered_bytes);
  impl_->dropped.Set(levels.usage_rows_dropped);
  impl_->pulls_running.Set(levels.pulls_running);
  impl_->pulls_waiting.Set(levels.pulls_waiting);
  impl_->pull_rate.Set(levels.pull_bytes_per_second);
  impl_->store_bytes.Set(levels.store_bytes);
  impl_->fills.Set(levels.weight_fills);
  const auto count = [](Counter& counter, double total) { counter.Increment(std::max(0.0, total - counter.Value())); };
  count(impl_->pulled, levels.pulled_bytes);
  count(impl_->egress_connections, levels.egress_connections);
  count(impl_->egress_refused, levels.egress_refused);
  count(impl_->audit_records, levels.audit_records);
  count(impl_->audit_failures, levels.audit_failures);
  count(impl_->audit_export_failures, levels.audit_export_failures);
  count(impl_->affinity_followed, levels.affinity_followed);
  count(impl_->affinity_spilled, levels.affinity_spilled);
  count(impl_->ejections, levels.ejections);
  count(impl_->retries_denied, levels.retries_denied);
  count(impl_->weights_read, levels.weights_read_bytes);
  count(impl_->weights_resident, levels.weights_resident_bytes);
  count(impl_->weights_left, levels.weights_left_bytes);
  std::ostringstream out;
  std::vector<prometheus::MetricFamily> families = request_families(impl_->probes);
  for (auto& family : impl_->registry.Collect()) families.push_back(std::move(family));
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

}  // namespace thaw::observe
