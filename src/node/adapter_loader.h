#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "node/engine/lora.h"
#include "wire/messages.h"

namespace thaw::node {

/// One call to an engine about an adapter.
struct AdapterCall {
  base::InstanceId instance;
  base::ModelName adapter;
  LoraApi api = LoraApi::none;
  std::string address{};      ///< of the engine
  std::string name{};         ///< that the engine knows it by
  std::string path{};         ///< as the engine sees it; empty: it is to be forgotten
  base::TimePoint deadline{};
};

/// Tells engines of adapters. A load takes as long as an engine reads a file, and one that hangs as long as it was given: so it has threads of its own, and
/// nobody else waits behind it. submit() may be called from any thread and never blocks; `loaded` is called from its threads, once for each load.
/// The destructor breaks off what is under way.
class AdapterLoader {
 public:
  using Loaded = std::function<void(wire::AdapterLoaded)>;
  static constexpr std::size_t kMaxWaiting = 1'000;  ///< beyond, a call is refused
  static constexpr unsigned kThreads = 4;

  explicit AdapterLoader(Loaded loaded);
  ~AdapterLoader();
  AdapterLoader(const AdapterLoader&) = delete;
  AdapterLoader& operator=(const AdapterLoader&) = delete;

  void submit(AdapterCall call);

 private:
  void work();
  void carry_out(const AdapterCall& call) const;

  Loaded loaded_;
  std::stop_source stop_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<AdapterCall> waiting_;
  std::vector<std::thread> workers_;
};

}  // namespace thaw::node
