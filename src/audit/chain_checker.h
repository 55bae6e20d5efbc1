#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "audit/record.h"
#include "audit/signing_key.h"

namespace thaw::audit {

/// Something that an honest log does not have.
struct Finding {
  std::string kind;        ///< "altered", "gap", "reordered", "repeated", "truncated", "anchor", "signature", "torn"
  std::string file;        ///< where: the log's or the anchor's
  std::uint64_t line = 0;  ///< 0: the file as a whole
  std::uint64_t seq = 0;   ///< of the record that it is about; 0: not known
  std::string text;
};

/// What was found out about a log.
struct Report {
  static constexpr std::size_t kMaxFindings = 1000;  ///< beyond, they are counted only

  std::vector<Finding> findings;
  std::uint64_t findings_total = 0;
  std::uint64_t records = 0, files = 0;
  std::uint64_t first_seq = 0, last_seq = 0;
  std::int64_t first_unix_ms = 0, last_unix_ms = 0;
  std::uint64_t expired_through_seq =
      0;  ///< records up to here were removed by the retention, as the log itself says; 0: none
  std::uint64_t heads_matched = 0;  ///< signed heads whose record is there and the same
  std::uint64_t heads_expired = 0;  ///< whose record was removed by the retention
  bool incomplete_end = false;  ///< the last line has no end: a record was just being written, or the server was killed

  [[nodiscard]] bool ok() const { return findings_total == 0; }
  void add(Finding finding);
};

/// Checks a log's lines in their order: each record's own hash, the chain, the numbers, and the signed heads that are
/// known. One use, one thread. Memory: for the heads and the findings.
class ChainChecker {
 public:
  /// A head of a trusted key whose signature holds; before the first line. `file` and `line`: where it stands.
  void expect(const Head& head, std::string file, std::uint64_t line);

  void begin_file(std::string name);
  void line(std::string_view text, std::uint64_t number, bool complete, bool last_file);

  /// After the last line.
  Report finish();
  Report& report() { return report_; }

 private:
  struct Expected {
    Head head;
    std::string file;
    std::uint64_t line = 0;
  };
  struct Gap {
    std::uint64_t first, last;
  };

  void place(const Record& record, std::uint64_t number);
  void note_expiry(const Record& record);
  void compare_heads(const Record& record);
  void find(const char* kind, std::uint64_t line, std::uint64_t seq, std::string text) {
    report_.add({kind, file_, line, seq, std::move(text)});
  }

  Report report_;
  std::string file_;
  std::unordered_multimap<std::uint64_t, Expected> expected_;
  std::vector<Gap> gaps_;       ///< at most as many as findings are kept
  std::uint64_t next_seq_ = 0;  ///< 0: before the first record
  std::string last_hash_;       ///< empty: the line before was no record
  std::optional<Record> first_;
  std::unordered_map<std::uint64_t, std::string> expired_;  ///< last record of each expired file -> its hash
};

}  // namespace thaw::audit
