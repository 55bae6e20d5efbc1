#include "cli/table.h"

#include <algorithm>
#include <cassert>

namespace thaw::cli {

void Table::add(std::vector<Cell> cells) {
  assert(cells.size() <= columns_.size());
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::render(bool colours) const {
  std::vector<std::size_t> widths;
  std::vector<Cell> headers;
  for (const Column& column : columns_) {
    widths.push_back(display_width(column.header));
    headers.push_back({column.header, Style::dim});
  }
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i].text));

  std::string text = render_row(headers, widths, colours);
  for (const auto& row : rows_) text += render_row(row, widths, colours);
  return text;
}

std::string Table::render_row(const std::vector<Cell>& cells, const std::vector<std::size_t>& widths,
                              bool colours) const {
  std::string line;
  std::string owed;  // spaces that are only written when something follows them
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) owed += "  ";
    const std::string fill(widths[i] - display_width(cells[i].text), ' ');
    if (columns_[i].align == Align::right) owed += fill;
    if (!cells[i].text.empty()) {
      line += owed + styled(cells[i].text, cells[i].style, colours);
      owed.clear();
    }
    if (columns_[i].align == Align::left) owed += fill;
  }
  return line + "\n";
}

}  // namespace thaw::cli
