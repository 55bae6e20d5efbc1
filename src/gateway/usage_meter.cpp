#include "gateway/usage_meter.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "net/loop.h"

namespace thaw::gateway {
namespace {

std::uint64_t to_us(base::Duration duration) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, base::duration_cast<std::chrono::microseconds>(duration).count()));
}

}  // namespace

UsageMeter::UsageMeter(store::UsageJournal* journal, const store::UsageOpening& opening)
    : journal_(journal), slot_(journal != nullptr ? journal->begin(opening) : store::UsageJournal::kNone) {}

UsageMeter::~UsageMeter() {
  released();
  if (journal_ == nullptr) return;
  store::UsageClosing closing;
  closing.ended_unix_ms = net::unix_ms();
  closing.outcome = store::UsageOutcome::failed;
  close(closing);
}

void UsageMeter::dispatched(const std::shared_ptr<controller::Replica>& replica, bool waited) {
  released();
  replica_ = replica;
  mark_ = replica_->service().enter(net::Loop::clock());
  if (waited) start_ += replica_->claim_start();
  if (journal_ != nullptr) journal_->dispatched(slot_);
}

void UsageMeter::released() {
  if (!replica_) return;
  service_ += replica_->service().leave(net::Loop::clock(), mark_);
  replica_.reset();
}

void UsageMeter::close(store::UsageClosing closing) {
  released();
  if (journal_ == nullptr) return;
  closing.service_us = to_us(service_);
  closing.start_us = to_us(start_);
  std::exchange(journal_, nullptr)->close(slot_, closing);
}

}  // namespace thaw::gateway
