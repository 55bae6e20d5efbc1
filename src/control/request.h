#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>

#include "base/ids.h"
#include "base/time.h"
#include "spec/model_spec.h"

namespace thaw::control {

struct Model;
struct Instance;
struct Tenant;
struct Request;

constexpr std::size_t kPriorities = 3;

/// The waiting requests of one tenant for one model, of each priority the oldest first.
struct Lane {
  base::TenantName tenant;
  double weight = 1;                 ///< turns that it gets for each of a tenant with weight 1
  double pass = 0;                   ///< whose is least has the next turn
  std::array<std::list<Request*>, kPriorities> waiting{};

  [[nodiscard]] bool empty() const { return waiting[0].empty() && waiting[1].empty() && waiting[2].empty(); }
  [[nodiscard]] Request* first() const;  ///< the oldest, where a level of priority counts as kLevelWaits; null if there is none
};

/// One request between its arrival and its end. Either queued (no instance) or dispatched (an instance), never both.
struct Request {
  base::RequestId id;
  base::TenantName tenant;           ///< once it is queued
  Tenant* account = nullptr;
  Model* model = nullptr;
  Instance* instance = nullptr;      ///< null: queued
  base::TimePoint queued_at{};       ///< when the present wait began
  base::TimePoint dispatched_at{};
  base::TimePoint deadline{};        ///< of the present wait
  std::uint32_t attempts = 0;        ///< replicas it was sent to
  spec::Priority priority = spec::Priority::normal;
  double device_seconds = 0;         ///< of replicas that it was sent to; without the present one
  double billed_from = 0;            ///< what the present one had given to each of its requests when this one came (Instance::given)
  bool answering = false;            ///< bytes went out to the client: no retry
  std::uint64_t affinity = 0;        ///< of what it asks for, and of which adapter (routing.h)
  base::ModelName adapter;           ///< of the model's; empty: none
  bool engine_error = false;         ///< the engine answered that it cannot
  bool slow = false;                 ///< its first byte came far later than other replicas' do
  bool retried = false;              ///< a replica failed under it: it runs alone until it answers

  // Its place in the queue, kept by FairQueue; valid while queued.
  std::list<Request*>::iterator place;
  std::list<Lane>::iterator lane;
};

}  // namespace thaw::control
