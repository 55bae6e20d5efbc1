#include <algorithm>
#include <array>

#include "spec/parse.h"

namespace thaw::spec {
namespace {

constexpr std::size_t kMaxLength = 64;  // no key of ours is longer; also bounds the cost of a hostile word

/// Optimal string alignment distance (Damerau-Levenshtein without edits inside a transposed pair). Both at most
/// kMaxLength.
std::size_t distance(std::string_view a, std::string_view b) {
  using Row = std::array<std::size_t, kMaxLength + 1>;
  Row before_last{};
  Row last{};
  Row row{};
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before_last = last;
    last = row;
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  if (word.size() > kMaxLength) return "";
  std::string best;
  std::size_t best_distance = kMaxLength;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kMaxLength) continue;
    const std::size_t edits = distance(word, candidate);
    // A slip leaves most of a word standing: one edit in three letters at most, and never every letter of it.
    const bool likely =
        edits <= std::max<std::size_t>(1, candidate.size() / 3) && edits < std::min(word.size(), candidate.size());
    if (likely && edits < best_distance) {
      best = candidate;
      best_distance = edits;
    }
  }
  return best;
}

}  // namespace thaw::spec
