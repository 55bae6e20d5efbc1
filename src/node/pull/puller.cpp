#include "node/pull/puller.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/units.h"
#include "node/pull/pull_source.h"
#include "node/sandbox/clock.h"
#include "spec/source_ref.h"

namespace thaw::node::pull {
namespace {

using base::Error;
using base::ErrorKind;

constexpr auto kSample = base::Millis(250);
constexpr auto kRateOver = base::Seconds(5);

std::int64_t unix_ms_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

const char* to_string(PullState state) {
  switch (state) {
    case PullState::queued:
      return "queued";
    case PullState::resolving:
      return "resolving";
    case PullState::fetching:
      return "pulling";
    case PullState::done:
      return "done";
    case PullState::failed:
      return "failed";
  }
  return "failed";
}

struct Puller::Job {
  std::uint64_t id = 0;
  PullOrder order;
  Progress progress;
  std::atomic<bool> cancelled{false};
  Fetcher* fetcher = nullptr;  ///< while it runs; under the mutex
  PullView view;               ///< but for progress; under the mutex
  /// Samples of fetched_bytes, for the rate; under the mutex.
  mutable std::deque<std::pair<base::TimePoint, std::uint64_t>> samples;

  [[nodiscard]] PullView look() const {
    PullView now_view = view;
    now_view.total_bytes = progress.total_bytes;
    now_view.done_bytes = progress.done_bytes;
    now_view.fetched_bytes = progress.fetched_bytes;
    if (view.state != PullState::fetching) return now_view;
    const base::TimePoint time = now();
    if (samples.empty() || time - samples.back().first >= kSample) samples.emplace_back(time, now_view.fetched_bytes);
    while (samples.size() > 2 && time - samples.front().first > kRateOver) samples.pop_front();
    if (const auto& [since, bytes] = samples.front(); time > since && now_view.fetched_bytes > bytes)
      now_view.bytes_per_s = static_cast<double>(now_view.fetched_bytes - bytes) / base::to_s(time - since);
    return now_view;
  }
};

struct Puller::State {
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t next_id = 1;
  std::deque<std::shared_ptr<Job>> waiting;
  std::deque<std::shared_ptr<Job>> jobs;  ///< all that are known, oldest first
  std::uint64_t ended_fetched_bytes = 0;  ///< of jobs that are forgotten
  bool closing = false;
  std::vector<std::thread> threads;

  [[nodiscard]] std::shared_ptr<Job> find(std::uint64_t id) const {
    const auto found = std::find_if(jobs.begin(), jobs.end(), [id](const auto& job) { return job->id == id; });
    return found == jobs.end() ? nullptr : *found;
  }
  void forget_old();
};

void Puller::State::forget_old() {
  auto ended = static_cast<std::size_t>(std::count_if(jobs.begin(), jobs.end(), [](const auto& job) { return job->view.ended(); }));
  for (auto job = jobs.begin(); ended > kMaxEnded && job != jobs.end();) {
    if (!(*job)->view.ended()) {
      ++job;
      continue;
    }
    ended_fetched_bytes += (*job)->progress.fetched_bytes;
    job = jobs.erase(job);
    --ended;
  }
}

Puller::Puller(BlobStore& store, PullerOptions options, Ended ended)
    : store_(store), options_(std::move(options)), ended_(std::move(ended)), state_(std::make_unique<State>()) {
  for (std::size_t i = 0; i < std::max<std::size_t>(1, options_.concurrent); ++i) state_->threads.emplace_back([this] { work(); });
}

Puller::~Puller() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closing = true;
    for (const auto& job : state_->jobs) {
      job->cancelled = true;
      if (job->fetcher != nullptr) job->fetcher->wake();
    }
  }
  state_->changed.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

base::Result<std::uint64_t> Puller::start(const PullOrder& order) {
  if (!order.source.remote()) return Error{ErrorKind::invalid, "there is nothing to pull: the source is a path on this machine"};
  const std::lock_guard lock(state_->mutex);
  for (const auto& job : state_->jobs)
    if (!job->view.ended() && !job->cancelled && job->order == order) return job->id;
  if (state_->waiting.size() >= kMaxWaiting) return Error{ErrorKind::exhausted, "too many pulls wait already; try again later"};
  auto job = std::make_shared<Job>();
  job->id = state_->next_id++;
  job->order = order;
  job->view.id = job->id;
  job->view.source = source_text(order.source, order.directory_wanted);
  job->view.begun_unix_ms = unix_ms_now();
  state_->jobs.push_back(job);
  state_->waiting.push_back(job);
  state_->forget_old();
  state_->changed.notify_one();
  return job->id;
}

base::Result<PullView> Puller::look(std::uint64_t id) const {
  const std::lock_guard lock(state_->mutex);
  const auto job = state_->find(id);
  if (job == nullptr) return Error{ErrorKind::not_found, fmt::format("there is no pull {}", id)};
  return job->look();
}

std::vector<PullView> Puller::all() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<PullView> views;
  for (const auto& job : state_->jobs) views.push_back(job->look());
  return views;
}

bool Puller::cancel(std::uint64_t id) {
  const std::lock_guard lock(state_->mutex);
  const auto job = state_->find(id);
  if (job == nullptr || job->view.ended()) return false;
  job->cancelled = true;
  if (job->fetcher != nullptr) job->fetcher->wake();
  return true;
}

Puller::Totals Puller::totals() const {
  const std::lock_guard lock(state_->mutex);
  Totals totals;
  totals.fetched_bytes = state_->ended_fetched_bytes;
  totals.waiting = state_->waiting.size();
  for (const auto& job : state_->jobs) {
    totals.fetched_bytes += job->progress.fetched_bytes;
    if (job->view.ended() || job->view.state == PullState::queued) continue;
    ++totals.running;
    totals.bytes_per_s += job->look().bytes_per_s;
  }
  return totals;
}

void Puller::work() {
  std::unique_lock lock(state_->mutex);
  for (;;) {
    state_->changed.wait(lock, [this] { return state_->closing || !state_->waiting.empty(); });
    if (state_->closing) return;
    const std::shared_ptr<Job> job = state_->waiting.front();
    state_->waiting.pop_front();
    lock.unlock();
    run(*job);
    lock.lock();
  }
}

PullerOptions Puller::options() const {
  const std::lock_guard lock(state_->mutex);
  return options_;
}

void Puller::set_options(PullerOptions options) {
  const std::lock_guard lock(state_->mutex);
  options_ = std::move(options);
}

void Puller::run(Job& job) {
  const base::TimePoint begun = now();
  const PullerOptions options = this->options();  // that it keeps to its end
  Fetcher fetcher(options.fetch);
  {
    const std::lock_guard lock(state_->mutex);
    job.fetcher = &fetcher;
  }
  const auto tell = [&](PullState state, const std::string& file) {
    const std::lock_guard lock(state_->mutex);
    job.view.state = state;
    job.view.file = file;
    (void)job.look();
  };
  const auto set = job.cancelled ? base::Result<PulledSet>(Error{ErrorKind::unavailable, "stopped"})
                                 : pull_source({job.order, options, store_, fetcher, job.progress, job.cancelled, tell});
  PullView view;
  bool closing = false;
  {
    const std::lock_guard lock(state_->mutex);
    job.fetcher = nullptr;
    job.view.state = set.ok() ? PullState::done : PullState::failed;
    job.view.ended_unix_ms = unix_ms_now();
    job.view.file.clear();
    if (set.ok())
      job.view.path = store_.path_of(*set);
    else
      job.view.error = set.error();
    view = job.look();
    closing = state_->closing;
  }
  if (closing) return;  // it goes on with the next start
  if (set.ok() && view.fetched_bytes > 0)
    spdlog::info("{}: pulled {} in {} ({} of {} were there)", view.source, base::format_bytes(view.fetched_bytes),
                 base::format_duration(now() - begun), base::format_bytes(view.total_bytes - std::min(view.total_bytes, view.fetched_bytes)),
                 base::format_bytes(view.total_bytes));
  else if (!set.ok())
    spdlog::warn("{}: not pulled: {}", view.source, view.error.message);
  ended_(view);
}

}  // namespace thaw::node::pull
