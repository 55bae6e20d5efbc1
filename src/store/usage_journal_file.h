#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "store/usage_slot.h"

namespace thaw::store {

/// The journal's file: a page of header, then slots; mapped, and locked against other processes. Its blocks are allocated when it is made: a full disk
/// later cannot reach through the mapping (as SIGBUS), but on file systems that write elsewhere each time (docs/decisions/0030).
class UsageJournalFile {
 public:
  /// `set_aside` gets the name that a file which is no journal was moved to; else it stays empty.
  static base::Result<UsageJournalFile> open(const std::string& path, std::uint32_t slots, std::string& set_aside);
  ~UsageJournalFile();
  UsageJournalFile(UsageJournalFile&& other) noexcept;
  UsageJournalFile& operator=(UsageJournalFile&&) = delete;

  [[nodiscard]] std::span<UsageSlot> slots() const { return slots_; }

 private:
  UsageJournalFile(int fd, void* mapping, std::size_t bytes);
  int fd_;
  void* mapping_;
  std::size_t bytes_;
  std::span<UsageSlot> slots_;
};

}  // namespace thaw::store
