// What usage is kept in: packs of rows in the database, and slots of the journal's file, as somebody may have left them. First byte: which.
#include <cstring>
#include <string>
#include <vector>

#include "fuzz/check.h"
#include "fuzz/memory_file.h"
#include "store/usage_pack.h"
#include "store/usage_slot.h"

namespace {

using namespace thaw::store;

/// What can be read is written as it was read.
void check_pack(std::string_view bytes) {
  std::vector<PackedRow> rows;
  const auto status = unpack_rows(bytes, [&](const PackedRow& row) { rows.push_back(row); });
  FUZZ_CHECK(status.ok() || !status.error().message.empty());
  RowPacker packer;
  for (const PackedRow& row : rows) packer.add(row);
  FUZZ_CHECK(packer.bytes().size() <= bytes.size() || rows.empty());  // numbers may have been written longer than they need be
  std::vector<PackedRow> again;
  FUZZ_CHECK(unpack_rows(packer.bytes(), [&](const PackedRow& row) { again.push_back(row); }).ok());
  FUZZ_CHECK(again == rows);
}

void check_slot(std::string_view bytes) {
  UsageSlot slot{};
  std::memcpy(static_cast<void*>(&slot), bytes.data(), std::min(bytes.size(), sizeof slot));
  switch (state_of(slot)) {
    case SlotState::open:
      close_slot(slot, {});
      FUZZ_CHECK(state_of(slot) == SlotState::closed);
      [[fallthrough]];
    case SlotState::closed: {
      const UsageRow row = row_of(slot);
      FUZZ_CHECK(row.tenant.size() <= kMaxUsageName && row.model.size() <= kMaxUsageName);
      break;
    }
    case SlotState::damaged:
    case SlotState::free:
      break;
  }
  free_slot(slot);
  FUZZ_CHECK(state_of(slot) == SlotState::free);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes = thaw::fuzz::text_of(data + 1, size - 1);
  if (data[0] % 2 == 0)
    check_pack(bytes);
  else
    check_slot(bytes);
  return 0;
}
