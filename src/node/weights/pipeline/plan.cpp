#include "node/weights/pipeline/plan.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <fmt/format.h>

namespace thaw::node::pipeline {
namespace {

constexpr std::uint64_t kAlignBytes = 4096;
constexpr std::uint64_t kMaxOffset = INT64_MAX;
constexpr std::uint64_t kMaxPlannedRows =
    1U << 16;  // of one tensor that are read one by one, leaving out what lies between

using Span = std::pair<std::uint64_t, std::uint64_t>;  // [begin, end) of a file

base::Error bad(std::size_t tensor, const std::string& what) {
  return {base::ErrorKind::invalid, fmt::format("tensor {} of the list: {}", tensor, what)};
}

/// Whether a * b + c fits a file; the caller's numbers may be anything.
bool fits(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  return c <= kMaxOffset && (a == 0 || b <= (kMaxOffset - c) / a);
}

base::Status check(std::size_t index, const TensorPart& part, const std::vector<std::string>& files,
                   const std::vector<std::uint64_t>& file_bytes) {
  if (part.file >= files.size()) return bad(index, fmt::format("there is no file {}", part.file));
  if (part.device < kHost) return bad(index, fmt::format("there is no device {}", part.device));
  if (part.bytes() == 0 && (part.rows == 0 || part.row_bytes == 0)) return {};
  if (part.rows > 1 && (part.file_stride < part.row_bytes || part.destination_stride < part.row_bytes))
    return bad(index,
               fmt::format("its rows of {} bytes overlap: they begin {} bytes apart in the file and {} in memory",
                           part.row_bytes, part.file_stride, part.destination_stride));
  const bool sane = fits(part.rows, part.row_bytes, 0) && fits(part.rows, part.file_stride, part.offset) &&
                    fits(part.rows, part.destination_stride, 0) && fits(part.row_bytes, 1, part.offset);
  if (!sane) return bad(index, "its numbers are too large");
  if (part.end() > file_bytes[part.file])
    return bad(index,
               fmt::format("it ends at byte {} of {}, which has {}: the file is incomplete or damaged; fetch it again",
                           part.end(), files[part.file], file_bytes[part.file]));
  return {};
}

/// The places of a tensor in its file, as one where the gaps between its rows are read too.
void add_spans(const TensorPart& part, std::uint64_t gap_bytes, std::vector<Span>& spans) {
  if (part.bytes() == 0) return;
  const bool one = part.rows == 1 || part.file_stride - part.row_bytes <= gap_bytes || part.rows > kMaxPlannedRows;
  if (one) {
    spans.emplace_back(part.offset, part.end());
    return;
  }
  for (std::uint64_t row = 0; row < part.rows; ++row) {
    const std::uint64_t begin = part.offset + row * part.file_stride;
    spans.emplace_back(begin, begin + part.row_bytes);
  }
}

/// Sorted, and joined where they overlap or lie no further apart than the gap. Begins are aligned.
void join(std::vector<Span>& spans, std::uint64_t gap_bytes) {
  std::sort(spans.begin(), spans.end());
  std::vector<Span> joined;
  for (const auto& [begin, end] : spans) {
    const std::uint64_t aligned = begin / kAlignBytes * kAlignBytes;
    if (!joined.empty() && aligned <= joined.back().second + gap_bytes)
      joined.back().second = std::max(joined.back().second, end);
    else
      joined.emplace_back(aligned, end);
  }
  spans = std::move(joined);
}

}  // namespace

base::Result<Plan> Plan::make(std::vector<std::string> files, const std::vector<std::uint64_t>& file_bytes,
                              std::vector<TensorPart> tensors) {
  if (files.size() > kMaxFiles || tensors.size() > kMaxTensors)
    return base::Error{base::ErrorKind::invalid,
                       fmt::format("cannot load {} tensors of {} files at once; {} of {} at most", tensors.size(),
                                   files.size(), kMaxTensors, kMaxFiles)};
  Plan plan;
  plan.files_ = std::move(files);
  plan.tensors_ = std::move(tensors);
  for (std::size_t i = 0; i < plan.tensors_.size(); ++i) {
    TensorPart& part = plan.tensors_[i];
    if (part.destination_stride == 0) part.destination_stride = part.row_bytes;
    if (part.rows == 1) part.file_stride = part.destination_stride = part.row_bytes;
    THAW_RETURN_IF_ERROR(check(i, part, plan.files_, file_bytes));
    if (!fits(part.bytes(), 1, plan.total_bytes_)) return bad(i, "the tensors are too large together");
    plan.total_bytes_ += part.bytes();
  }
  plan.index();
  plan.plan_ranges();
  plan.measure();
  return plan;
}

void Plan::index() {
  index_.resize(files_.size());
  for (std::uint32_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i].bytes() > 0) index_[tensors_[i].file].tensors.push_back(i);
  }
  for (FileIndex& file : index_) {
    std::sort(file.tensors.begin(), file.tensors.end(), [&](std::uint32_t a, std::uint32_t b) {
      return std::pair(tensors_[a].offset, a) < std::pair(tensors_[b].offset, b);
    });
    std::uint64_t furthest = 0;
    for (const std::uint32_t tensor : file.tensors) {
      furthest = std::max(furthest, tensors_[tensor].end());
      file.furthest.push_back(furthest);
    }
    order_.insert(order_.end(), file.tensors.begin(), file.tensors.end());
  }
}

void Plan::plan_ranges() {
  // Wider gaps are read, until there are no more ranges than the reader takes.
  for (std::uint64_t gap_bytes = kMergeGapBytes;; gap_bytes *= 4) {
    ranges_.clear();
    range_file_.clear();
    for (std::uint32_t file = 0; file < files_.size(); ++file) {
      std::vector<Span> spans;
      for (const std::uint32_t tensor : index_[file].tensors) add_spans(tensors_[tensor], gap_bytes, spans);
      join(spans, gap_bytes);
      for (const auto& [begin, end] : spans) {
        ranges_.push_back({files_[file], begin, end - begin});
        range_file_.push_back(file);
      }
    }
    if (ranges_.size() <= DirectReader::kMaxRanges || gap_bytes > kMaxOffset / 8) return;
  }
}

void Plan::measure() {
  std::uint64_t before = 0;
  for (const ReadRange& range : ranges_) {
    before_.push_back(before);
    before += range.bytes;
  }
  tensor_before_.resize(tensors_.size());
  std::size_t range = 0;
  for (const std::uint32_t tensor : order_) {
    const TensorPart& part = tensors_[tensor];
    while (range_file_[range] != part.file || ranges_[range].offset + ranges_[range].bytes <= part.offset) ++range;
    tensor_before_[tensor] = bytes_before(range, part.offset);
  }
}

void Plan::cut(const ReadChunk& chunk, std::vector<Piece>& pieces) const {
  const FileIndex& file = index_[range_file_[chunk.range]];
  const std::uint64_t begin = chunk.offset;
  const std::uint64_t end = begin + chunk.bytes.size();
  const auto first = std::upper_bound(file.furthest.begin(), file.furthest.end(), begin) - file.furthest.begin();
  for (auto i = static_cast<std::size_t>(first); i < file.tensors.size(); ++i) {
    const TensorPart& part = tensors_[file.tensors[i]];
    if (part.offset >= end) break;
    if (part.end() <= begin) continue;
    // The part of one row that lies in the chunk, or many whole ones.
    const auto add = [&](std::uint64_t row, std::uint64_t rows) {
      const std::uint64_t row_begin = part.offset + row * part.file_stride;
      const std::uint64_t from = std::max(row_begin, begin);
      const std::uint64_t to = std::min(row_begin + part.row_bytes, end);
      if (from >= to) return;
      pieces.push_back({file.tensors[i], from - begin, row * part.destination_stride + from - row_begin, to - from,
                        rows, part.file_stride, part.destination_stride});
    };
    const std::uint64_t first_row = begin <= part.offset ? 0 : (begin - part.offset) / part.file_stride;
    const std::uint64_t last_row = std::min(part.rows - 1, (end - 1 - part.offset) / part.file_stride);
    const bool first_whole = part.offset + first_row * part.file_stride >= begin;
    const bool last_whole = part.offset + last_row * part.file_stride + part.row_bytes <= end;
    const std::uint64_t whole_from = first_whole ? first_row : first_row + 1;
    const std::uint64_t whole_to = last_whole ? last_row + 1 : last_row;  // just past
    if (!first_whole) add(first_row, 1);
    if (whole_to > whole_from) add(whole_from, whole_to - whole_from);
    if (!last_whole && last_row >= whole_from) add(last_row, 1);
  }
}

}  // namespace thaw::node::pipeline
