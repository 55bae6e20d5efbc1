#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace thaw::node {

/// What a layer is made of, found out before anything of it is written.
struct LayerContents {
  std::uint64_t entries = 0;
  std::uint64_t file_bytes = 0;          ///< of all files, unpacked
  std::vector<std::string> whiteouts;    ///< paths in lower layers that are gone, relative, clean
  std::vector<std::string> opaque_dirs;  ///< directories of which nothing is to be seen of lower layers; "" is the root
};

/// How much of it there may be.
struct LayerBounds {
  std::uint64_t entries = 1'000'000;
  std::uint64_t file_bytes = 0;
};

/// The problem: a layer says in its file names what of the layers below it is gone (".wh.NAME", ".wh..wh..opq";
/// https://github.com/opencontainers/image-spec/blob/main/layer.md), umoci obeys that only where it sees these layers, and a small file may unpack
/// to a disk full of zeros. So its headers are read beforehand: POSIX ustar and pax, and GNU's long names.
///
/// Fed with the plain tar file in pieces of any size. Bodies are skipped, but for long names and pax records (64 KiB at most). What would unpack to
/// more than it holds (sparse files) is refused, as are ".." and names that no path has. One thread at a time.
class TarReader {
 public:
  explicit TarReader(LayerBounds bounds) : bounds_(bounds) {}

  /// Errors: invalid for what is no such tar file; exhausted for one that is out of bounds. None are recovered from.
  base::Status add(std::string_view bytes);
  /// After the last piece. invalid when something is missing.
  base::Result<LayerContents> finish();

 private:
  static constexpr std::size_t kBlock = 512;
  enum class Body { skipped, long_name, pax, pax_global, long_link };

  base::Status take_block();
  base::Status take_header();
  base::Status take_body();
  base::Status take_pax();
  base::Status take_entry(const std::string& name, char type, std::uint64_t size);

  LayerBounds bounds_;
  LayerContents contents_;
  std::array<char, kBlock> block_{};
  std::size_t filled_ = 0;
  std::uint64_t skip_blocks_ = 0;  ///< of a body that is not looked at
  std::size_t last_bytes_ = 0;     ///< of its last block, that count
  Body body_ = Body::skipped;
  std::string text_;             ///< of a body that is
  std::uint64_t text_left_ = 0;  ///< bytes of it to come
  std::string next_name_;        ///< of the next entry, by what went before it
  std::string next_size_;
  int zero_blocks_ = 0;
  bool ended_ = false;
};

}  // namespace thaw::node
