#include "node/oci/layer_scan.h"

#include <unistd.h>

#include <cerrno>
#include <vector>

#include <zlib.h>

#include "node/images/digest.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::size_t kChunk = 256ULL << 10;
constexpr int kGzipOnly = 15 + 16;             // zlib's windowBits for gzip files
constexpr std::uint64_t kHeaderBytes = 4'096;  // of an entry at most, beside its body: headers, padding, a usual long name

Error broken(const char* why) {
  return {ErrorKind::invalid, std::string("a layer is broken: ") + why + "; push the image again"};
}

/// A gzip file, perhaps of several members, into `sink`.
class Inflater {
 public:
  Inflater() { ready_ = ::inflateInit2(&stream_, kGzipOnly) == Z_OK; }
  ~Inflater() {
    if (ready_) ::inflateEnd(&stream_);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  template <typename Sink>
  base::Status add(std::string_view bytes, const Sink& sink) {
    if (!ready_) return Error{ErrorKind::internal, "zlib cannot be set up"};
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = static_cast<uInt>(bytes.size());
    for (;;) {
      if (at_end_ && stream_.avail_in == 0) break;
      if (at_end_ && ::inflateReset(&stream_) != Z_OK) return broken("its gzip file has a second part that is none");
      stream_.next_out = reinterpret_cast<Bytef*>(out_.data());
      stream_.avail_out = static_cast<uInt>(out_.size());
      const int result = ::inflate(&stream_, Z_NO_FLUSH);
      if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return broken("it is no gzip file");
      at_end_ = result == Z_STREAM_END;
      THAW_RETURN_IF_ERROR(sink(std::string_view(out_.data(), out_.size() - stream_.avail_out)));
      if (result == Z_BUF_ERROR || (!at_end_ && stream_.avail_in == 0 && stream_.avail_out != 0)) break;
    }
    return {};
  }
  [[nodiscard]] bool at_end() const { return at_end_; }

 private:
  z_stream stream_{};
  bool ready_ = false;
  bool at_end_ = false;
  std::vector<char> out_ = std::vector<char>(kChunk);
};

}  // namespace

base::Result<ScannedLayer> scan_layer(int file, bool gzip, LayerBounds bounds, const std::stop_token& stop) {
  Sha256 digest;
  TarReader tar(bounds);
  std::uint64_t plain_bytes = 0;
  const std::uint64_t most_bytes = bounds.file_bytes + bounds.entries * kHeaderBytes;
  const auto take = [&](std::string_view bytes) -> base::Status {
    plain_bytes += bytes.size();
    if (plain_bytes > most_bytes)
      return Error{ErrorKind::exhausted, "a layer unpacks to more than an image may have; raise node.containerImages.maxImage if it is meant to"};
    digest.add(bytes);
    return tar.add(bytes);
  };
  Inflater inflater;
  std::vector<char> chunk(kChunk);
  off_t at = 0;
  for (;;) {
    if (stop.stop_requested()) return Error{ErrorKind::unavailable, "the server ends"};
    const ssize_t got = ::pread(file, chunk.data(), chunk.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::errno_error("cannot read a layer", errno);
    if (got == 0) break;
    at += got;
    const std::string_view bytes(chunk.data(), static_cast<std::size_t>(got));
    THAW_RETURN_IF_ERROR(gzip ? inflater.add(bytes, take) : take(bytes));
  }
  if (gzip && !inflater.at_end()) return broken("its gzip file ends too soon");
  THAW_ASSIGN_OR_RETURN(LayerContents contents, tar.finish());
  return ScannedLayer{"sha256:" + digest.finish(), std::move(contents)};
}

}  // namespace thaw::node
