#include "spec/problems.h"

#include <algorithm>

#include <fmt/format.h>

namespace thaw::spec {

std::string printable(std::string_view text) {
  constexpr std::size_t kMaxBytes = 64;
  constexpr char kDelete = 0x7f;
  std::string result;
  bool cut = text.size() > kMaxBytes;
  if (cut) {
    text = text.substr(0, kMaxBytes);
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0x80U) != 0)
      text.remove_suffix(1);  // no half characters
  }
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < ' ' || c == kDelete)
      result += fmt::format("\\x{:02x}", byte);
    else
      result += c;
  }
  return cut ? result + "..." : result;
}

void Problems::add(Place place, std::string_view path, std::string_view message) {
  if (++total_ > kMaxShown) return;
  shown_.push_back({place, path.empty() ? std::string(message) : fmt::format("{}: {}", path, message)});
}

base::Error Problems::to_error(const std::string& file) const {
  std::vector<Problem> ordered = shown_;
  std::stable_sort(ordered.begin(), ordered.end(), [](const Problem& a, const Problem& b) {
    return a.place.line != b.place.line ? a.place.line < b.place.line : a.place.column < b.place.column;
  });
  std::string message;
  for (const Problem& problem : ordered) {
    if (!message.empty()) message += '\n';
    if (!file.empty()) message += fmt::format("{}:{}:{}: ", file, problem.place.line, problem.place.column);
    message += problem.text;
  }
  if (total_ > shown_.size()) message += fmt::format("\nand {} more", total_ - shown_.size());
  return {base::ErrorKind::invalid, message};
}

}  // namespace thaw::spec
