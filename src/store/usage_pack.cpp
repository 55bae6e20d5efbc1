#include "store/usage_pack.h"

#include <array>
#include <limits>

#include "store/usage.h"

namespace thaw::store {
namespace {

constexpr char kVersion = 1;
constexpr std::size_t kMaxVarint = 10;  // bytes of 64 bits
constexpr std::size_t kNumbers = 13;
constexpr unsigned kWayShift = 3;
constexpr unsigned kDispatchedShift = 5;
static_assert(kUsageOutcomes <= 1U << kWayShift && kUsageWays <= 1U << (kDispatchedShift - kWayShift));

constexpr std::uint64_t zigzag(std::int64_t value) {
  return static_cast<std::uint64_t>(value) << 1U ^ static_cast<std::uint64_t>(value >> 63);
}
constexpr std::int64_t unzigzag(std::uint64_t value) {
  return static_cast<std::int64_t>(value >> 1U ^ (~(value & 1U) + 1U));
}

char* put(char* at, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7U) *at++ = static_cast<char>(value | 0x80U);
  *at++ = static_cast<char>(value);
  return at;
}

bool take(std::string_view& bytes, std::uint64_t& value) {
  value = 0;
  for (std::size_t i = 0; i < kMaxVarint && i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    value |= static_cast<std::uint64_t>(byte & 0x7FU) << (7 * i);
    if (byte < 0x80) {
      bytes.remove_prefix(i + 1);
      return true;
    }
  }
  return false;
}

template <typename Number>
bool fits(std::uint64_t value) {
  return value <= std::numeric_limits<Number>::max();
}

base::Error damaged(const char* what) {
  return {base::ErrorKind::io, std::string("a group of requests cannot be read: ") + what};
}

}  // namespace

void RowPacker::clear() {
  bytes_.assign(1, kVersion);
  rows_ = 0;
  last_seq_ = 0;
  last_arrived_ = 0;
}

void RowPacker::add(const PackedRow& row) {
  std::array<char, kNumbers * kMaxVarint> buffer;
  char* at = buffer.data();
  // Differences wrap around, and so do the sums that undo them.
  at = put(at, zigzag(static_cast<std::int64_t>(row.seq - last_seq_)));
  at = put(at, zigzag(static_cast<std::int64_t>(static_cast<std::uint64_t>(row.arrived_unix_ms) -
                                                static_cast<std::uint64_t>(last_arrived_))));
  at = put(at, zigzag(row.total_ms));
  at = put(at, row.tenant);
  at = put(at, row.key);
  at = put(at, row.model);
  at = put(at, row.outcome | static_cast<unsigned>(row.way) << kWayShift |
                   static_cast<unsigned>(row.dispatched) << kDispatchedShift);
  for (const std::uint64_t value : {std::uint64_t{row.status}, std::uint64_t{row.prompt_tokens},
                                    std::uint64_t{row.completion_tokens}, row.wait_us, row.service_us, row.start_us})
    at = put(at, value);
  bytes_.append(buffer.data(), static_cast<std::size_t>(at - buffer.data()));
  last_seq_ = row.seq;
  last_arrived_ = row.arrived_unix_ms;
  ++rows_;
}

base::Status unpack_rows(std::string_view bytes, const std::function<void(const PackedRow&)>& on_row) {
  if (bytes.empty() || bytes[0] != kVersion) return damaged("it is of an unknown version");
  bytes.remove_prefix(1);
  PackedRow row;
  while (!bytes.empty()) {
    std::array<std::uint64_t, kNumbers> numbers{};
    for (std::uint64_t& number : numbers)
      if (!take(bytes, number)) return damaged("it ends in the middle of a request");
    const auto& [seq, arrived, total, tenant, key, model, flags, status, prompt, completion, wait, service, start] =
        numbers;
    const std::uint64_t outcome = flags & ((1U << kWayShift) - 1);
    const std::uint64_t way = flags >> kWayShift & ((1U << (kDispatchedShift - kWayShift)) - 1);
    if (outcome >= kUsageOutcomes || flags >> kDispatchedShift > 1 || !fits<std::uint16_t>(status) ||
        !fits<std::uint32_t>(prompt) || !fits<std::uint32_t>(completion))
      return damaged("a number is too large");
    row.seq += static_cast<std::uint64_t>(unzigzag(seq));
    row.arrived_unix_ms = static_cast<std::int64_t>(static_cast<std::uint64_t>(row.arrived_unix_ms) +
                                                    static_cast<std::uint64_t>(unzigzag(arrived)));
    row.total_ms = unzigzag(total);
    row.tenant = tenant;
    row.key = key;
    row.model = model;
    row.outcome = static_cast<std::uint8_t>(outcome);
    row.way = static_cast<std::uint8_t>(way);
    row.dispatched = flags >> kDispatchedShift != 0;
    row.status = static_cast<std::uint16_t>(status);
    row.prompt_tokens = static_cast<std::uint32_t>(prompt);
    row.completion_tokens = static_cast<std::uint32_t>(completion);
    row.wait_us = wait;
    row.service_us = service;
    row.start_us = start;
    on_row(row);
  }
  return {};
}

}  // namespace thaw::store
