#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/weights/direct_reader.h"

/// What to read in which order, and which part of a chunk goes where. Pure: no files, no devices.
namespace thaw::node::pipeline {

constexpr int kHost = -1;  ///< the "device" that is the host's memory

/// Where the weights of one tensor (or of a shard of one) lie and go: `rows` pieces of `row_bytes`.
struct TensorPart {
  std::uint32_t file = 0;
  int device = kHost;
  std::uint64_t offset = 0;  ///< in its file, of the first row
  std::uint64_t row_bytes = 0;
  std::uint64_t rows = 1;
  std::uint64_t file_stride = 0;         ///< from row to row in the file; at least row_bytes
  std::uint64_t destination = 0;         ///< address; 0: not known yet
  std::uint64_t destination_stride = 0;  ///< from row to row there; at least row_bytes

  [[nodiscard]] std::uint64_t bytes() const { return row_bytes * rows; }
  /// Just past the last byte in the file.
  [[nodiscard]] std::uint64_t end() const {
    return bytes() == 0 ? offset : offset + (rows - 1) * file_stride + row_bytes;
  }
};

/// A rectangle of bytes inside a chunk that belongs to one tensor: `rows` pieces of `row_bytes`.
struct Piece {
  std::size_t tensor = 0;
  std::uint64_t chunk_offset = 0;        ///< of its first byte, from the chunk's first
  std::uint64_t destination_offset = 0;  ///< the same from the tensor's destination
  std::uint64_t row_bytes = 0;
  std::uint64_t rows = 1;
  std::uint64_t chunk_stride = 0;
  std::uint64_t destination_stride = 0;

  [[nodiscard]] std::uint64_t bytes() const { return row_bytes * rows; }
};

class Plan {
 public:
  static constexpr std::size_t kMaxTensors = 1U << 20;
  static constexpr std::size_t kMaxFiles = 4096;
  /// Gaps between tensors up to here are read too: that costs less than to begin another read.
  static constexpr std::uint64_t kMergeGapBytes = 256U << 10;

  /// `file_bytes`: the length of each file. Errors: invalid, naming the tensor: no such file, rows that overlap or
  /// overflow, bytes past the end of its file.
  static base::Result<Plan> make(std::vector<std::string> files, const std::vector<std::uint64_t>& file_bytes,
                                 std::vector<TensorPart> tensors);

  /// Every byte that a tensor wants, once, in the order of the files and of the offsets in them.
  [[nodiscard]] const std::vector<ReadRange>& ranges() const { return ranges_; }
  [[nodiscard]] const std::vector<TensorPart>& tensors() const { return tensors_; }
  /// The tensors in the order in which their first bytes are read.
  [[nodiscard]] const std::vector<std::uint32_t>& order() const { return order_; }
  /// How many bytes are read before this place comes; for ranges()[range].
  [[nodiscard]] std::uint64_t bytes_before(std::size_t range, std::uint64_t offset) const {
    return before_[range] + offset - ranges_[range].offset;
  }
  /// The same of a tensor's first byte.
  [[nodiscard]] std::uint64_t bytes_before_tensor(std::size_t tensor) const { return tensor_before_[tensor]; }
  /// Of all tensors.
  [[nodiscard]] std::uint64_t total_bytes() const { return total_bytes_; }

  /// What of a chunk belongs to tensors, appended to `pieces`: up to three rectangles for each tensor it touches.
  void cut(const ReadChunk& chunk, std::vector<Piece>& pieces) const;

 private:
  struct FileIndex {
    std::vector<std::uint32_t> tensors;   ///< by offset
    std::vector<std::uint64_t> furthest;  ///< the furthest end of these and all before
  };

  void index();
  void plan_ranges();
  void measure();

  std::vector<std::string> files_;
  std::vector<TensorPart> tensors_;
  std::vector<FileIndex> index_;  ///< by file
  std::vector<ReadRange> ranges_;
  std::vector<std::uint32_t> range_file_;
  std::vector<std::uint64_t> before_;         ///< by range
  std::vector<std::uint64_t> tensor_before_;  ///< by tensor
  std::vector<std::uint32_t> order_;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace thaw::node::pipeline
