#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "store/usage.h"

/// One request in the usage journal (docs/decisions/0030): 256 bytes of a file that is mapped into memory. Two parts, each with its own CRC, each
/// made valid by storing its `seq` last: whenever the process dies, a slot is free, open or closed, never something between.
namespace thaw::store {

inline constexpr std::size_t kMaxUsageName = 64;  ///< of tenants and models, whose names have at most 63

/// What is known when the request is admitted.
struct UsageOpening {
  std::uint64_t seq = 0;  ///< not 0
  std::int64_t arrived_unix_ms = 0;
  base::KeyId key;
  std::string_view tenant, model;  ///< longer ones are cut
};

/// What is known when it has ended.
struct UsageClosing {
  std::int64_t ended_unix_ms = 0;
  UsageOutcome outcome = UsageOutcome::ok;
  UsageWay way = UsageWay::warm;
  std::uint16_t status = 0;
  std::uint32_t prompt_tokens = 0, completion_tokens = 0;
  std::uint64_t wait_us = 0, service_us = 0, start_us = 0;
};

struct UsageSlot {
  struct Open {
    std::uint64_t seq;  ///< 0: the slot is free
    std::int64_t arrived_unix_ms;
    std::uint64_t key;
    char tenant[kMaxUsageName];
    char model[kMaxUsageName];
    std::uint8_t tenant_bytes, model_bytes;
    std::uint8_t unused[2];
    std::uint32_t crc;  ///< of all before it
  } open;
  std::uint32_t dispatched;  ///< 1: a replica got it; a word of its own, written in between
  std::uint32_t unused;
  struct Closed {
    std::uint64_t seq;  ///< that of `open`; else it is still open
    std::int64_t ended_unix_ms;
    std::uint64_t wait_us, service_us, start_us;
    std::uint32_t prompt_tokens, completion_tokens;
    std::uint16_t status;
    std::uint8_t outcome, way;
    std::uint32_t crc;  ///< of all before it
  } closed;
  std::uint8_t padding[256 - sizeof(Open) - 8 - sizeof(Closed)];
};
static_assert(sizeof(UsageSlot) == 256);

void open_slot(UsageSlot& slot, const UsageOpening& opening);
void mark_dispatched(UsageSlot& slot);
void close_slot(UsageSlot& slot, const UsageClosing& closing);
/// Free, and no name left in it.
void free_slot(UsageSlot& slot);

enum class SlotState { free, damaged, open, closed };
SlotState state_of(const UsageSlot& slot);
/// Of a closed slot.
UsageRow row_of(const UsageSlot& slot);
void read_row(const UsageSlot& slot, UsageRow& row);  ///< the same into one that was used before, for its memory

}  // namespace thaw::store
