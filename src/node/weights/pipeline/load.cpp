#include "node/weights/pipeline/load.h"

#include <utility>

#include <fmt/format.h>

#include "node/sandbox/clock.h"

namespace thaw::node::pipeline {

Load::Load(Plan plan, LoadOptions options) : plan_(std::move(plan)), options_(options), started_at_(now()) {
  const auto& tensors = plan_.tensors();
  progress_.tensors = tensors.size();
  progress_.bytes = plan_.total_bytes();
  for (std::uint32_t i = 0; i < tensors.size(); ++i) {
    destinations_.push_back(tensors[i].destination);
    missing_bytes_.push_back(tensors[i].bytes());
    if (missing_bytes_.back() > 0) continue;
    events_.push_back({LoadEvent::Kind::done, i});
    ++progress_.tensors_done;
  }
  reading_at(0);
}

base::Result<std::optional<LoadEvent>> Load::next(std::optional<base::Duration> timeout) {
  std::unique_lock lock(mutex_);
  const auto something = [this] { return !events_.empty() || ended_locked(); };
  if (!timeout)
    told_owner_.wait(lock, something);
  else if (!told_owner_.wait_for(lock, *timeout, something))
    return std::optional<LoadEvent>();
  if (!events_.empty()) {
    const LoadEvent event = events_.front();
    events_.pop_front();
    return std::optional(event);
  }
  if (!outcome_.ok()) return outcome_.error();
  return std::optional(LoadEvent{});
}

base::Status Load::provide(std::uint32_t tensor, std::uint64_t destination) {
  const std::lock_guard lock(mutex_);
  if (tensor >= destinations_.size() || destination == 0)
    return base::Error{base::ErrorKind::invalid, fmt::format("cannot load tensor {} of {} to address {}", tensor,
                                                             destinations_.size(), destination)};
  if (destinations_[tensor] != 0)
    return base::Error{base::ErrorKind::invalid, fmt::format("tensor {} has a destination already", tensor)};
  destinations_[tensor] = destination;
  ++owner_said_;
  told_loader_.notify_all();
  return {};
}

void Load::cancel() {
  const std::lock_guard lock(mutex_);
  cancel_asked_ = true;
  ++owner_said_;
  told_loader_.notify_all();
}

void Load::wait_ended() {
  std::unique_lock lock(mutex_);
  told_owner_.wait(lock, [this] { return ended_locked(); });
}

bool Load::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancel_asked_ && ended_locked() && !outcome_.ok();
}

LoadProgress Load::progress() const {
  const std::lock_guard lock(mutex_);
  LoadProgress progress = progress_;
  progress.duration = ended_at_.value_or(now()) - started_at_;
  return progress;
}

const char* Load::error_text() const {
  const std::lock_guard lock(mutex_);
  return error_text_.c_str();
}

bool Load::cancel_asked() const {
  const std::lock_guard lock(mutex_);
  return cancel_asked_;
}

void Load::reading_at(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto& order = plan_.order();
  bool asked = false;
  for (; asked_ < order.size() && plan_.bytes_before_tensor(order[asked_]) <= bytes + options_.window_bytes; ++asked_) {
    if (destinations_[order[asked_]] != 0) continue;
    events_.push_back({LoadEvent::Kind::needs_destination, order[asked_]});
    asked = true;
  }
  if (asked) told_owner_.notify_all();
}

bool Load::destinations(std::span<const Piece> pieces, std::vector<std::uint64_t>& addresses) const {
  const std::lock_guard lock(mutex_);
  addresses.clear();
  for (const Piece& piece : pieces) {
    if (destinations_[piece.tensor] == 0) return false;
    addresses.push_back(destinations_[piece.tensor]);
  }
  return true;
}

void Load::arrived(std::size_t tensor, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  progress_.bytes_done += bytes;
  missing_bytes_[tensor] -= bytes;
  if (missing_bytes_[tensor] > 0) return;
  ++progress_.tensors_done;
  events_.push_back({LoadEvent::Kind::done, static_cast<std::uint32_t>(tensor)});
  told_owner_.notify_all();
}

void Load::count_read(std::uint64_t read_bytes, std::uint64_t buffered_bytes) {
  const std::lock_guard lock(mutex_);
  progress_.read_bytes = read_bytes;
  progress_.buffered_bytes = buffered_bytes;
}

void Load::count_pageable(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  progress_.pageable_bytes += bytes;
}

void Load::wait_for_owner(base::Duration limit) {
  std::unique_lock lock(mutex_);
  told_loader_.wait_for(lock, limit, [this] { return owner_said_ != loader_knows_; });
  loader_knows_ = owner_said_;
}

bool Load::complete() const {
  const std::lock_guard lock(mutex_);
  return progress_.tensors_done == progress_.tensors;
}

void Load::end(const base::Status& status) {
  const std::lock_guard lock(mutex_);
  outcome_ = status;
  if (!status.ok()) error_text_ = status.error().message;
  ended_at_ = now();
  told_owner_.notify_all();
}

}  // namespace thaw::node::pipeline
