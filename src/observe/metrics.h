#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"

namespace thaw::wire {
struct Phase;
}

namespace thaw::observe {

struct ModelProbe;

/// How a request found its replica: up already, or it waited for it to come up.
enum class Found { warm, cold, restored, woken };
const char* to_string(Found found);

/// What instances go through.
enum class Transition { start, restore, wake, freeze, snapshot };

/// What one finished request adds.
struct RequestNumbers {
  int status = 0;
  Found found = Found::warm;
  base::Duration queued{}, first_byte{}, total{};  ///< first_byte 0: none was sent
  std::uint64_t prompt_tokens = 0, completion_tokens = 0;
};

/// The gauges, gathered when somebody scrapes.
struct Levels {
  struct PerModel {
    std::string model;
    double in_flight = 0, queued = 0, ready = 0, starting = 0, freezing = 0, standby = 0, waking = 0;
  };
  struct PerDevice {
    std::string node, device;
    double reserved_bytes = 0, budget_bytes = 0;
  };
  struct PerNode {
    std::string node;
    double host_reserved_bytes = 0, host_budget_bytes = 0;    ///< beside the devices' memory
    double image_reserved_bytes = 0, image_budget_bytes = 0;  ///< disk
    double images = 0;
  };
  std::vector<PerNode> nodes;
  std::vector<PerModel> models;  ///< only those that are not asleep: 1,000 sleeping models are no 4,000 lines
  std::vector<PerDevice> devices;
  double deployed_models = 0, connections = 0, buffered_bytes = 0, usage_rows_dropped = 0, changed_models = 0;
  double audit_records = 0, audit_failures = 0, audit_export_failures = 0;  ///< since the start
  double pulled_bytes = 0, pulls_running = 0, pulls_waiting = 0, pull_bytes_per_second = 0;  ///< bytes since the start
  double store_bytes = 0;                                                                     ///< disk of what was pulled
  double egress_connections = 0, egress_refused = 0;  ///< of engines, since the start
  double weight_fills = 0;  ///< under way
  /// Routing, since the start: requests that went where their affinity says, or elsewhere; replicas left out for a while; retries that were refused.
  double affinity_followed = 0, affinity_spilled = 0, ejections = 0, retries_denied = 0;
  /// Since the start.
  double weights_read_bytes = 0, weights_resident_bytes = 0, weights_left_bytes = 0;
  double host_cache_bytes = 0, host_cache_budget_bytes = 0;
};

/// Every metric of the daemon, under names in the habit of Prometheus and vLLM; docs/metrics.md lists them. Recording
/// is thread-safe, but for request_finished.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// One model's numbers, looked up once and kept for ever (a counter must not go back when a model is deployed again).
  ModelProbe* model(const std::string& name);
  /// On every request's way: a few plain additions. One thread, always the same.
  static void request_finished(ModelProbe& probe, const RequestNumbers& numbers);
  void cold_start(const std::string& model, base::Duration took, const std::vector<wire::Phase>& phases);
  /// A part that was not over when the instance was ready, or is of another's making.
  void cold_start_phase(const wire::Phase& phase);
  /// `result`: "ok", "fell_back" (to the next slower way), "failed", "stopped" by the controller, or why the instance ended.
  void transition(Transition transition, const std::string& result, base::Duration took);
  void image_gone();
  void instance_down(const std::string& model, const std::string& reason);
  void instance_stopped(const std::string& model);
  void refused(const std::string& cause);
  void request_retried(const std::string& model);
  void client_left();
  void file_changed(const std::string& model);       ///< a model's file is not what it was
  void file_not_verified(const std::string& model);  ///< its bytes are not those that were recorded, or cannot be read
  void pull_ended(const std::string& result);        ///< "ok", or the kind of failure
  /// `failed`: something stayed that should have left.
  void weights_evicted(std::uint64_t bytes, bool failed);

  /// Prometheus text format.
  std::string scrape(const Levels& levels);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace thaw::observe
