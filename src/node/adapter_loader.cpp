#include "node/adapter_loader.h"

#include <utility>

#include <spdlog/spdlog.h>

namespace thaw::node {

AdapterLoader::AdapterLoader(Loaded loaded) : loaded_(std::move(loaded)) {
  for (unsigned i = 0; i < kThreads; ++i) workers_.emplace_back([this] { work(); });
}

AdapterLoader::~AdapterLoader() {
  {
    const std::lock_guard lock(mutex_);
    stop_.request_stop();
  }
  ready_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void AdapterLoader::submit(AdapterCall call) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() < kMaxWaiting) {
      waiting_.push_back(std::move(call));
      ready_.notify_one();
      return;
    }
  }
  if (!call.path.empty()) loaded_({call.instance, call.adapter, "too many adapters wait to be loaded"});
}

void AdapterLoader::work() {
  for (;;) {
    AdapterCall call;
    {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return stop_.stop_requested() || !waiting_.empty(); });
      if (stop_.stop_requested()) return;
      call = std::move(waiting_.front());
      waiting_.pop_front();
    }
    carry_out(call);
  }
}

void AdapterLoader::carry_out(const AdapterCall& call) const {
  const std::stop_token stop = stop_.get_token();
  if (call.path.empty()) {
    if (const auto gone = unload_adapter(call.address, call.api, call.name, call.deadline, stop); !gone.ok())
      spdlog::warn("instance {} keeps adapter {}: {}", call.instance.value(), call.adapter.str(), gone.error().message);
    return;
  }
  const auto loaded = load_adapter(call.address, call.api, call.name, call.path, call.deadline, stop);
  loaded_({call.instance, call.adapter, loaded.ok() ? "" : loaded.error().message});
}

}  // namespace thaw::node
