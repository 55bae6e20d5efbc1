#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "base/result.h"
#include "node/pull/puller.h"

namespace thaw::node::pull {

/// One pull from end to end: finds out what the source leads to, fetches the files one after the other, keeps the set. Blocking, one thread.
struct PullRun {
  const PullOrder& order;
  const PullerOptions& options;
  BlobStore& store;
  Fetcher& fetcher;
  Progress& progress;
  const std::atomic<bool>& cancelled;
  std::function<void(PullState, const std::string& file)> tell;
};
base::Result<PulledSet> pull_source(const PullRun& run);

}  // namespace thaw::node::pull
