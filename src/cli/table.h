#pragma once

#include <string>
#include <vector>

#include "cli/terminal.h"

namespace thaw::cli {

/// Rows in aligned columns, two spaces apart: easy to read, and to cut with awk. Not bounded: the server bounds its
/// answers.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string header;
    Align align = Align::left;
  };
  struct Cell {
    std::string text;
    Style style = Style::plain;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// One more column, to the left of all; before rows are added.
  void prepend(Column column) { columns_.insert(columns_.begin(), std::move(column)); }

  /// One cell a column; missing ones are left empty.
  void add(std::vector<Cell> cells);

  /// Header and rows, each ended by a newline and without trailing spaces.
  [[nodiscard]] std::string render(bool colours) const;

 private:
  [[nodiscard]] std::string render_row(const std::vector<Cell>& cells, const std::vector<std::size_t>& widths,
                                       bool colours) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace thaw::cli
