#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/weights/pipeline/plan.h"

namespace thaw::node::pipeline {

/// How far a load has come.
struct LoadProgress {
  std::uint64_t tensors = 0, tensors_done = 0;
  std::uint64_t bytes = 0, bytes_done = 0;  ///< of the tensors; bytes that several of them take count for each
  std::uint64_t read_bytes = 0;             ///< of the files
  std::uint64_t buffered_bytes = 0;         ///< of them, through the page cache
  std::uint64_t pageable_bytes = 0;         ///< copied to devices out of memory that is not pinned
  base::Duration duration{};                ///< since the start, or until the end
};

struct LoadEvent {
  enum class Kind { end, done, needs_destination };
  Kind kind = Kind::end;
  std::uint32_t tensor = 0;
};

struct LoadOptions {
  std::uint64_t window_bytes = 256ULL << 20;  ///< destinations are asked for when the reading is no further from them
  std::size_t in_turns = 1;                   ///< ranges that are read at once: one for each disk
};

/// One list of tensors on their way: what its owner and the loader's thread tell each other. Thread-safe.
class Load {
 public:
  Load(Plan plan, LoadOptions options);
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  [[nodiscard]] const Plan& plan() const { return plan_; }
  [[nodiscard]] std::size_t in_turns() const { return options_.in_turns; }

  // The owner's side.

  /// The next event, at most `timeout` later, for ever without one; nothing when there is none by then. Errors: why the
  /// load has failed, once the events before are handed out.
  base::Result<std::optional<LoadEvent>> next(std::optional<base::Duration> timeout);
  /// Errors: invalid (no such tensor, or it has a destination).
  base::Status provide(std::uint32_t tensor, std::uint64_t destination);
  void cancel();
  void wait_ended();
  [[nodiscard]] bool cancelled() const;  ///< it ended so
  [[nodiscard]] LoadProgress progress() const;
  /// Empty while it has not failed. Valid as long as the load.
  [[nodiscard]] const char* error_text() const;

  // The loader's side.

  [[nodiscard]] bool cancel_asked() const;
  /// The reading has come here: asks for the destinations of what comes within the window.
  void reading_at(std::uint64_t bytes);
  /// The destination of each piece's tensor; false when one is not known yet.
  bool destinations(std::span<const Piece> pieces, std::vector<std::uint64_t>& addresses) const;
  /// That many bytes of a tensor have arrived.
  void arrived(std::size_t tensor, std::uint64_t bytes);
  void count_read(std::uint64_t read_bytes, std::uint64_t buffered_bytes);
  void count_pageable(std::uint64_t bytes);
  /// Sleeps until the owner provides or cancels something, or for a while.
  void wait_for_owner(base::Duration limit);
  [[nodiscard]] bool complete() const;  ///< every tensor has arrived
  void end(const base::Status& status);

 private:
  [[nodiscard]] bool ended_locked() const { return ended_at_.has_value(); }

  const Plan plan_;
  const LoadOptions options_;
  const base::TimePoint started_at_;

  mutable std::mutex mutex_;
  std::condition_variable told_owner_;
  std::condition_variable told_loader_;
  std::deque<LoadEvent> events_;  ///< two for each tensor at most
  std::vector<std::uint64_t> destinations_;
  std::vector<std::uint64_t> missing_bytes_;  ///< by tensor
  std::size_t asked_ = 0;                     ///< of plan().order(): destinations asked for
  std::uint64_t owner_said_ = 0;              ///< how often
  std::uint64_t loader_knows_ = 0;
  bool cancel_asked_ = false;
  std::optional<base::TimePoint> ended_at_;
  base::Status outcome_;
  std::string error_text_;
  LoadProgress progress_;
};

}  // namespace thaw::node::pipeline
