#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/pull/blob_store.h"
#include "node/pull/fetcher.h"
#include "node/pull/file_fetch.h"
#include "spec/model_spec.h"

namespace thaw::node::pull {

/// What the node pulls with, and from where.
struct PullerOptions {
  std::size_t concurrent = 2;                           ///< pulls at once; more wait
  std::string hub_endpoint = "https://huggingface.co";  ///< without a slash at its end
  std::string hub_token;                                ///< sent to the hub alone; empty: none
  FetchSettings fetch;
  FetchLimits limits;
};

/// What is to be pulled.
struct PullOrder {
  spec::Source source;            ///< remote
  bool directory_wanted = false;  ///< for an engine that reads directories of safetensors
  bool refresh = false;           ///< ask again what the source leads to, though it was pulled before
  bool operator==(const PullOrder& other) const { return spec_text() == other.spec_text() && directory_wanted == other.directory_wanted; }

 private:
  [[nodiscard]] std::string spec_text() const { return source.hf + "\n" + source.url + "\n" + source.sha256; }
};

enum class PullState { queued, resolving, fetching, done, failed };
const char* to_string(PullState state);

/// One pull as it is now.
struct PullView {
  std::uint64_t id = 0;
  std::string source;
  PullState state = PullState::queued;
  std::uint64_t total_bytes = 0;    ///< 0: not known yet
  std::uint64_t done_bytes = 0;     ///< there, also from an earlier try
  std::uint64_t fetched_bytes = 0;  ///< by this one
  double bytes_per_s = 0;           ///< of late; while it fetches
  std::string file;                 ///< that is being fetched
  std::string path;                 ///< done: where the engine finds it
  base::Error error;                ///< failed
  std::int64_t begun_unix_ms = 0, ended_unix_ms = 0;
  [[nodiscard]] bool ended() const { return state == PullState::done || state == PullState::failed; }
};

/// Pulls what models are made of into a BlobStore, a few sources at a time, each on a thread of its own; the rest wait in order. What was
/// cut, by the network, by cancel() or by the end of the process, goes on from what was durable when it is started again.
/// start(), look() and cancel() from any thread; `ended` is called on a thread of the puller's and must not block. The destructor stops everything.
class Puller {
 public:
  static constexpr std::size_t kMaxWaiting = 1'000;
  static constexpr std::size_t kMaxEnded = 200;  ///< that are remembered

  using Ended = std::function<void(const PullView&)>;

  Puller(BlobStore& store, PullerOptions options, Ended ended);
  ~Puller();
  Puller(const Puller&) = delete;
  Puller& operator=(const Puller&) = delete;

  /// Its id; the one that is under way when the same is being pulled already. Errors: exhausted when kMaxWaiting wait; invalid for what is not
  /// remote.
  base::Result<std::uint64_t> start(const PullOrder& order);
  /// not_found for an id that is not (or no more) known.
  [[nodiscard]] base::Result<PullView> look(std::uint64_t id) const;
  [[nodiscard]] std::vector<PullView> all() const;  ///< oldest first
  /// Ends it as failed (unavailable, "stopped"); what has come is kept. False: it had ended, or is not known.
  bool cancel(std::uint64_t id);

  /// Since the start.
  struct Totals {
    std::uint64_t fetched_bytes = 0;
    std::size_t running = 0, waiting = 0;
    double bytes_per_s = 0;
  };
  [[nodiscard]] Totals totals() const;
  [[nodiscard]] PullerOptions options() const;
  /// For pulls that begin from now on. How many are fetched at once stays as it was.
  void set_options(PullerOptions options);

 private:
  struct Job;
  struct State;

  void work();
  void run(Job& job);

  BlobStore& store_;
  PullerOptions options_;  ///< under the mutex of state_
  const Ended ended_;
  std::unique_ptr<State> state_;
};

}  // namespace thaw::node::pull
