#include "sim/csv.h"

namespace thaw::sim {

bool CsvReader::next(std::vector<std::string>& row) {
  if (at_ >= text_.size()) return false;
  row_line_ = line_;
  std::size_t fields = 0;
  const auto field = [&]() -> std::string& {
    if (fields == row.size()) row.emplace_back();
    row[fields].clear();
    return row[fields++];
  };
  std::string* current = &field();
  bool quoted = false;
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == '\n') ++line_;
    if (quoted) {
      if (c != '"') {
        current->push_back(c);
      } else if (at_ + 1 < text_.size() && text_[at_ + 1] == '"') {
        current->push_back('"');
        ++at_;
      } else {
        quoted = false;
      }
    } else if (c == '"' && current->empty()) {
      quoted = true;
    } else if (c == ',') {
      current = &field();
    } else if (c == '\n') {
      ++at_;
      break;
    } else if (c != '\r') {
      current->push_back(c);
    }
  }
  row.resize(fields);
  broken_ = quoted;
  return !broken_;
}

}  // namespace thaw::sim
