#include "store/usage_slot.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/crc32c.h"

namespace thaw::store {
namespace {

/// What a mapping holds is in the kernel's hands as soon as it is stored, in the order of the stores: that the compiler and the CPU keep.
template <typename Word>
void store_last(Word& word, Word value) {
  std::atomic_ref<Word>(word).store(value, std::memory_order_release);
}

std::uint8_t copy_name(char (&to)[kMaxUsageName], std::string_view name) {
  const std::size_t bytes = std::min(name.size(), kMaxUsageName);
  std::memcpy(to, name.data(), bytes);
  return static_cast<std::uint8_t>(bytes);
}

template <typename Part>
std::uint32_t crc_of(const Part& part) {
  return base::crc32c(&part, offsetof(Part, crc));
}

}  // namespace

void open_slot(UsageSlot& slot, const UsageOpening& opening) {
  UsageSlot::Open open{};
  open.seq = opening.seq;
  open.arrived_unix_ms = opening.arrived_unix_ms;
  open.key = opening.key.value();
  open.tenant_bytes = copy_name(open.tenant, opening.tenant);
  open.model_bytes = copy_name(open.model, opening.model);
  open.crc = crc_of(open);
  const std::uint64_t seq = open.seq;
  open.seq = 0;
  slot.dispatched = 0;
  slot.closed.seq = 0;
  slot.open = open;
  store_last(slot.open.seq, seq);
}

void mark_dispatched(UsageSlot& slot) { store_last(slot.dispatched, 1U); }

void close_slot(UsageSlot& slot, const UsageClosing& closing) {
  UsageSlot::Closed closed{};
  closed.seq = slot.open.seq;
  closed.ended_unix_ms = closing.ended_unix_ms;
  closed.wait_us = closing.wait_us;
  closed.service_us = closing.service_us;
  closed.start_us = closing.start_us;
  closed.prompt_tokens = closing.prompt_tokens;
  closed.completion_tokens = closing.completion_tokens;
  closed.status = closing.status;
  closed.outcome = static_cast<std::uint8_t>(closing.outcome);
  closed.way = static_cast<std::uint8_t>(closing.way);
  closed.crc = crc_of(closed);
  closed.seq = 0;
  slot.closed = closed;
  store_last(slot.closed.seq, slot.open.seq);
}

void free_slot(UsageSlot& slot) {
  store_last(slot.open.seq, std::uint64_t{0});
  std::memset(static_cast<void*>(&slot), 0, sizeof slot);
}

SlotState state_of(const UsageSlot& slot) {
  if (slot.open.seq == 0) return SlotState::free;
  if (slot.open.crc != crc_of(slot.open) || slot.open.tenant_bytes > kMaxUsageName || slot.open.model_bytes > kMaxUsageName)
    return SlotState::damaged;
  const bool closed = slot.closed.seq == slot.open.seq && slot.closed.crc == crc_of(slot.closed) && slot.closed.outcome < kUsageOutcomes &&
                      slot.closed.way < kUsageWays;
  return closed ? SlotState::closed : SlotState::open;
}

UsageRow row_of(const UsageSlot& slot) {
  UsageRow row;
  read_row(slot, row);
  return row;
}

void read_row(const UsageSlot& slot, UsageRow& row) {
  row.seq = slot.open.seq;
  row.arrived_unix_ms = slot.open.arrived_unix_ms;
  row.ended_unix_ms = slot.closed.ended_unix_ms;
  row.dispatched = slot.dispatched != 0;
  row.key = base::KeyId(slot.open.key);
  row.tenant.assign(slot.open.tenant, slot.open.tenant_bytes);
  row.model.assign(slot.open.model, slot.open.model_bytes);
  row.outcome = static_cast<UsageOutcome>(slot.closed.outcome);
  row.way = static_cast<UsageWay>(slot.closed.way);
  row.status = slot.closed.status;
  row.prompt_tokens = slot.closed.prompt_tokens;
  row.completion_tokens = slot.closed.completion_tokens;
  row.wait_us = slot.closed.wait_us;
  row.service_us = slot.closed.service_us;
  row.start_us = slot.closed.start_us;
}

}  // namespace thaw::store
