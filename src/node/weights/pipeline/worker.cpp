#include "node/weights/pipeline/worker.h"

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/units.h"
#include "node/sandbox/clock.h"
#include "node/weights/pipeline/device_copier.h"
#include "node/weights/pipeline/host_copier.h"
#include "node/weights/said_once.h"

namespace thaw::node::pipeline {
namespace {

using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

constexpr auto kStallLimit = base::Seconds(60);                // a chunk's copy takes less than a millisecond
constexpr auto kShortestWait = std::chrono::microseconds(20);  // between two looks at what has arrived
constexpr auto kLongestWait = std::chrono::microseconds(200);
constexpr auto kOwnerWait = base::Seconds(1);  // between two looks while the owner is to act

base::Error cancelled_error() {
  return {base::ErrorKind::unavailable, "the load was cancelled"};
}

}  // namespace

Worker::Worker(LoaderOptions options) : options_(std::move(options)) {}

Worker::~Worker() {
  reader_.reset();
  unpin_ring();
}

void Worker::unpin_ring() {
  const auto device = copiers_.upper_bound(kHost);  // any will do
  if (!pinned_ || device == copiers_.end()) return;
  if (static_cast<DeviceCopier&>(*device->second).make_current().ok())
    (void)driver_->call<cuMemHostUnregister_t>("cuMemHostUnregister", static_cast<void*>(memory_->span().data()));
  pinned_ = false;
}

base::Status Worker::set_up_ring() {
  if (reader_) return {};
  auto memory = ReadMemory::allocate(options_.ring.memory_bytes());
  if (!memory.ok()) return memory.error();
  memory_ = std::make_unique<ReadMemory>(std::move(memory).value());
  auto reader = options_.make_queue ? DirectReader::open_with(options_.ring, memory_->span(), options_.make_queue)
                                    : DirectReader::open(options_.ring, memory_->span());
  if (!reader.ok()) return reader.error();
  reader_ = std::move(reader).value();
  return {};
}

/// Once, whether it works or not: copies out of memory that is not pinned arrive too.
void Worker::pin_ring(const DeviceCopier& copier) {
  if (std::exchange(pin_tried_, true)) return;
  const std::span<std::byte> ring = memory_->span();
  base::Status status = copier.make_current();
  if (status.ok())
    status = driver_->call<cuMemHostRegister_v2_t>("cuMemHostRegister_v2", static_cast<void*>(ring.data()), ring.size(),
                                                   kCudaHostPortable);
  pinned_ = status.ok();
  if (pinned_ || !first_time_said("memory that is not pinned")) return;
  spdlog::warn(
      "weights go to devices at about half their bus's rate, since {} cannot be pinned: {}; raise the limit on "
      "locked memory (ulimit -l)",
      base::format_bytes(ring.size()), status.error().message);
}

base::Status Worker::set_up_device(int device) {
  if (copiers_.contains(device)) return {};
  if (device == kHost) {
    copiers_[kHost] = std::make_unique<HostCopier>(HostCopier::default_threads(), options_.ring.depth);
    return {};
  }
  if (!driver_) {
    auto driver = CudaDriver::open(options_.cuda_library);
    if (!driver.ok())
      return base::Error{base::ErrorKind::unavailable, driver.error().message + "; is NVIDIA's driver installed?"};
    THAW_RETURN_IF_ERROR((driver->call<cuInit_t>("cuInit", 0U)));
    driver_ = std::make_shared<const CudaDriver>(std::move(driver).value());
  }
  THAW_ASSIGN_OR_RETURN(auto copier, DeviceCopier::open(driver_, device, options_.ring.depth));
  pin_ring(*copier);
  copiers_[device] = std::move(copier);
  return {};
}

base::Status Worker::set_up(const Load& load) {
  THAW_RETURN_IF_ERROR(set_up_ring());
  for (const TensorPart& part : load.plan().tensors()) THAW_RETURN_IF_ERROR(set_up_device(part.device));
  return {};
}

void Worker::hold(const Load& load, const ReadChunk& chunk) {
  Held held;
  held.slot = chunk.slot;
  held.memory = chunk.bytes.data();
  load.plan().cut(chunk, held.pieces);
  held_.push_back(std::move(held));
}

/// False while a destination is missing.
base::Result<bool> Worker::begin_copies(Load& load, Held& held) {
  if (!load.destinations(held.pieces, addresses_)) return false;
  held.begun = true;
  std::set<int> devices;
  for (const Piece& piece : held.pieces) devices.insert(load.plan().tensors()[piece.tensor].device);
  for (const int device : devices) {
    copies_.clear();
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < held.pieces.size(); ++i) {
      const Piece& piece = held.pieces[i];
      if (load.plan().tensors()[piece.tensor].device != device) continue;
      copies_.push_back({held.memory + piece.chunk_offset, addresses_[i] + piece.destination_offset, piece.row_bytes,
                         piece.rows, piece.chunk_stride, piece.destination_stride});
      bytes += piece.bytes();
    }
    THAW_RETURN_IF_ERROR(copiers_.at(device)->begin(held.slot, copies_));
    held.devices.push_back(device);
    if (device != kHost && !pinned_) load.count_pageable(bytes);
  }
  return true;
}

/// `busy`: devices that were seen to be copying from an earlier chunk still.
base::Result<bool> Worker::arrived_everywhere(Held& held, std::vector<int>& busy) {
  for (std::size_t i = 0; i < held.devices.size();) {
    const int device = held.devices[i];
    bool done = std::find(busy.begin(), busy.end(), device) == busy.end();
    if (done) {
      THAW_ASSIGN_OR_RETURN(done, copiers_.at(device)->done(held.slot));
      if (!done) busy.push_back(device);
    }
    if (done)
      held.devices.erase(held.devices.begin() + static_cast<std::ptrdiff_t>(i));
    else
      ++i;
  }
  return held.devices.empty();
}

base::Result<bool> Worker::advance(Load& load) {
  bool came_on = false;
  std::vector<int> busy;
  for (std::size_t i = 0; i < held_.size();) {
    Held& held = held_[i];
    if (!held.begun) {
      THAW_ASSIGN_OR_RETURN(const bool begun, begin_copies(load, held));
      came_on = came_on || begun;
    }
    bool arrived = held.begun;
    if (arrived) {
      THAW_ASSIGN_OR_RETURN(arrived, arrived_everywhere(held, busy));
    }
    if (!arrived) {
      ++i;
      continue;
    }
    for (const Piece& piece : held.pieces) load.arrived(piece.tensor, piece.bytes());
    reader_->release(held.slot);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
    came_on = true;
  }
  return came_on;
}

/// Nothing is being read: all slots hold chunks that are being copied, or that wait for a destination.
base::Status Worker::wait_for_slot(Load& load) {
  const base::TimePoint stalled_at = now() + kStallLimit;
  base::Duration wait = kShortestWait;
  while (!load.cancel_asked()) {
    THAW_ASSIGN_OR_RETURN(const bool came_on, advance(load));
    if (came_on) return {};
    const auto copying = std::find_if(held_.begin(), held_.end(), [](const Held& held) { return held.begun; });
    if (copying == held_.end()) {
      load.wait_for_owner(kOwnerWait);
      continue;
    }
    if (now() > stalled_at)
      return base::Error{base::ErrorKind::unavailable, fmt::format("cuda:{} has not finished a copy for {} s",
                                                                   copying->devices.front(), kStallLimit.count())};
    load.wait_for_owner(wait);
    wait = std::min<base::Duration>(wait * 2, kLongestWait);
  }
  return cancelled_error();
}

base::Status Worker::load_all(Load& load) {
  THAW_RETURN_IF_ERROR(set_up(load));
  THAW_RETURN_IF_ERROR(reader_->begin(load.plan().ranges(), load.in_turns()));
  do {
    if (load.cancel_asked()) return cancelled_error();
    THAW_ASSIGN_OR_RETURN(const std::optional<ReadChunk> chunk, reader_->next());
    if (chunk) {
      hold(load, *chunk);
      load.reading_at(load.plan().bytes_before(chunk->range, chunk->offset) + chunk->bytes.size());
      const ReadReport report = reader_->report();
      load.count_read(report.bytes, report.buffered_bytes);
    }
    THAW_ASSIGN_OR_RETURN(const bool came_on, advance(load));
    if (!chunk && !came_on && !held_.empty()) THAW_RETURN_IF_ERROR(wait_for_slot(load));
  } while (!reader_->finished() || !held_.empty());
  if (!load.complete())
    return base::Error{base::ErrorKind::invalid, "a file was cut short before it could be read: fetch it again"};
  return {};
}

base::Status Worker::run(Load& load) {
  base::Status status = load_all(load);
  if (!status.ok()) clean_up();
  return status;
}

/// After a failure: nothing may read or write the ring, or the destinations, any more.
void Worker::clean_up() {
  bool lost = reader_ && !reader_->end().ok();
  for (const auto& [device, copier] : copiers_) lost = !copier->settle().ok() || lost;
  held_.clear();
  if (!lost) return;
  // The kernel or a device may still use the memory, at any time: it is given up, and the next load takes another ring.
  (void)reader_.release();
  (void)memory_.release();
  for (auto& [device, copier] : copiers_) (void)copier.release();
  copiers_.clear();
  pin_tried_ = pinned_ = false;
}

}  // namespace thaw::node::pipeline
