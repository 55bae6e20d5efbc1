#include "node/pull/part_file.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/units.h"
#include "node/weights/direct_file.h"

namespace thaw::node::pull {
namespace {

using base::Error;
using base::ErrorKind;
using Pieces = std::span<const std::span<const std::byte>>;

constexpr std::uint64_t down(std::uint64_t at) {
  return at / PartFile::kAlignBytes * PartFile::kAlignBytes;
}
constexpr std::uint64_t up(std::uint64_t at) {
  return down(at + PartFile::kAlignBytes - 1);
}

/// `bytes` of the pieces, but for the first `skip`.
std::vector<iovec> cut(Pieces pieces, std::uint64_t skip, std::uint64_t bytes) {
  std::vector<iovec> parts;
  for (const auto& piece : pieces) {
    const std::uint64_t from = std::min<std::uint64_t>(skip, piece.size());
    const std::uint64_t count = std::min<std::uint64_t>(bytes, piece.size() - from);
    skip -= from;
    bytes -= count;
    // pwritev only reads from it.
    if (count > 0) parts.push_back({const_cast<std::byte*>(piece.data() + from), count});
  }
  return parts;
}

}  // namespace

Error part_error(const std::string& path, std::uint64_t bytes, int number) {
  if (number != ENOSPC && number != EDQUOT) return base::errno_error("cannot write " + path, number);
  return {ErrorKind::exhausted,
          fmt::format("the disk is full: {} are needed for {}; free some (`thaw models gc`), or move the data directory to a larger disk",
                      base::format_bytes(bytes), path)};
}

base::Result<PartFile> PartFile::open(const std::string& path, std::uint64_t expected_bytes) {
  Fd buffered(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!buffered) return part_error(path, expected_bytes, errno);
  Fd direct(::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC | O_NOFOLLOW));
  if (!direct && !refuses_direct(errno)) return part_error(path, expected_bytes, errno);
  return PartFile(path, std::move(buffered), std::move(direct));
}

base::Status PartFile::write_some(Pieces pieces, std::uint64_t skip, std::uint64_t bytes, std::uint64_t offset, bool direct) {
  while (bytes > 0) {
    const std::vector<iovec> parts = cut(pieces, skip, bytes);
    direct = direct && direct_;
    const ssize_t written =
        ::pwritev(direct ? direct_fd_.get() : buffered_.get(), parts.data(), static_cast<int>(parts.size()), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && direct && refuses_direct(errno)) {
      spdlog::info("{} is written through the page cache, which is slower: its disk refuses direct writes", path_);
      direct_ = false;
      continue;
    }
    if (written <= 0) return part_error(path_, offset + bytes, written < 0 ? errno : EIO);
    const auto count = static_cast<std::uint64_t>(written);
    // So that the last fdatasync has little left to do. Where it is not known it is not needed either.
    if (!direct) (void)::sync_file_range(buffered_.get(), static_cast<off_t>(offset), written, SYNC_FILE_RANGE_WRITE);
    skip += count;
    offset += count;
    bytes -= count;
  }
  return {};
}

base::Status PartFile::write(Pieces pieces, std::uint64_t offset) {
  std::uint64_t bytes = 0;
  for (const auto& piece : pieces) bytes += piece.size();
  const std::uint64_t end = offset + bytes;
  if (!direct_) return write_some(pieces, 0, bytes, offset, false);
  const std::uint64_t first = std::min(up(offset), end);
  const std::uint64_t last = std::max(down(end), first);
  THAW_RETURN_IF_ERROR(write_some(pieces, 0, first - offset, offset, false));
  THAW_RETURN_IF_ERROR(write_some(pieces, first - offset, last - first, first, true));
  return write_some(pieces, last - offset, end - last, last, false);
}

base::Result<std::span<const std::byte>> PartFile::read(std::span<std::byte> memory, std::uint64_t offset, std::uint64_t bytes) {
  const std::uint64_t from = down(offset);
  const std::uint64_t lead = offset - from;
  for (;;) {
    const bool direct = direct_;
    const ssize_t got = ::pread(direct ? direct_fd_.get() : buffered_.get(), memory.data(), up(lead + bytes), static_cast<off_t>(from));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && direct && refuses_direct(errno)) {
      direct_ = false;
      continue;
    }
    if (got < 0 || static_cast<std::uint64_t>(got) <= lead)
      return base::errno_error("cannot read back what was fetched, " + path_, got < 0 ? errno : EIO);
    return std::span<const std::byte>(memory.subspan(lead, std::min<std::uint64_t>(bytes, static_cast<std::uint64_t>(got) - lead)));
  }
}

base::Status PartFile::sync() {
  if (::fdatasync(buffered_.get()) != 0) return base::errno_error("cannot write " + path_ + " to disk", errno);
  return {};
}

}  // namespace thaw::node::pull
