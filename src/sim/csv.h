#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::sim {

/// Cuts CSV into rows (RFC 4180: quoted fields may hold commas, quotes and line ends). Does not own the text.
class CsvReader {
 public:
  explicit CsvReader(std::string_view text) : text_(text) {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;  // a byte order mark
  }

  /// The next row; false at the end, or when a quoted field has no end (broken()).
  bool next(std::vector<std::string>& row);
  [[nodiscard]] std::size_t line() const { return row_line_; }  ///< where that row begins, from 1
  [[nodiscard]] bool broken() const { return broken_; }

 private:
  std::string_view text_;
  std::size_t at_ = 0, line_ = 1, row_line_ = 0;
  bool broken_ = false;
};

}  // namespace thaw::sim
