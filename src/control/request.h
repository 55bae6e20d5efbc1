#pragma once

#include <cstdint>
#include <list>

#include "base/ids.h"
#include "base/time.h"

namespace thaw::control {

struct Model;
struct Instance;
struct Request;

/// The waiting requests of one tenant for one model, oldest first.
struct Lane {
  base::TenantName tenant;
  std::list<Request*> waiting;
};

/// One request between its arrival and its end. Either queued (no instance) or dispatched (an instance), never both.
struct Request {
  base::RequestId id;
  base::TenantName tenant;
  Model* model = nullptr;
  Instance* instance = nullptr;      ///< null: queued
  base::TimePoint queued_at{};       ///< when the present wait began
  base::TimePoint dispatched_at{};
  base::TimePoint deadline{};        ///< of the present wait
  std::uint32_t attempts = 0;        ///< replicas it was sent to
  bool answering = false;            ///< bytes went out to the client: no retry
  std::uint64_t affinity = 0;        ///< of what it asks for (routing.h)
  bool engine_error = false;         ///< the engine answered that it cannot
  bool slow = false;                 ///< its first byte came far later than other replicas' do
  bool retried = false;              ///< a replica failed under it: it runs alone until it answers

  // Its place in the queue, kept by FairQueue; valid while queued.
  std::list<Request*>::iterator place;
  std::list<Lane>::iterator lane;
};

}  // namespace thaw::control
