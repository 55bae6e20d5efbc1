#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"

namespace prometheus {
class Counter;
class Histogram;
}  // namespace prometheus

namespace thaw::wire {
struct Phase;
}

namespace thaw::observe {

/// One model's instruments, looked up once and kept for ever (a counter must not go back when a model is deployed again).
struct ModelProbe {
  prometheus::Counter* prompt_tokens = nullptr;
  prometheus::Counter* completion_tokens = nullptr;
  prometheus::Counter* by_class[6] = {};              ///< requests by status class; [2] is 2xx
  prometheus::Histogram* queue_seconds = nullptr;
  prometheus::Histogram* ttft_seconds[2] = {};        ///< [0] warm, [1] cold
  prometheus::Histogram* duration_seconds = nullptr;
};

/// What one finished request adds.
struct RequestNumbers {
  int status = 0;
  bool cold = false;
  base::Duration queued{}, first_byte{}, total{};  ///< first_byte 0: none was sent
  std::uint64_t prompt_tokens = 0, completion_tokens = 0;
};

/// The gauges, gathered when somebody scrapes.
struct Levels {
  struct PerModel { std::string model; double in_flight = 0, queued = 0, ready = 0, starting = 0; };
  struct PerDevice { std::string node, device; double reserved_bytes = 0, budget_bytes = 0; };
  std::vector<PerModel> models;   ///< only those that are not asleep: 1,000 sleeping models are no 4,000 lines
  std::vector<PerDevice> devices;
  double deployed_models = 0, connections = 0, buffered_bytes = 0, usage_rows_dropped = 0;
};

/// Every metric of the daemon, under names in the habit of Prometheus and vLLM; docs/metrics.md lists them. Recording is thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  ModelProbe* model(const std::string& name);
  void request_finished(const std::string& name, ModelProbe& probe, const RequestNumbers& numbers);
  void cold_start(const std::string& model, base::Duration took, const std::vector<wire::Phase>& phases);
  void instance_down(const std::string& model, const std::string& reason);
  void instance_stopped(const std::string& model);
  void refused(const std::string& cause);
  void request_retried(const std::string& model);
  void client_left();

  /// Prometheus text format.
  std::string scrape(const Levels& levels);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace thaw::observe
