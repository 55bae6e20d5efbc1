#include "node/weights/integrity.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <span>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "node/sandbox/fd.h"
#include "node/weights/direct_file.h"
#include "node/weights/read_memory.h"
#include "node/weights/residency.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // should it be a FIFO, nobody waits for its writer

base::Result<wire::FileStamp> stamp_of(const std::string& path, const struct stat& status) {
  if (!S_ISREG(status.st_mode)) return Error{ErrorKind::invalid, "cannot read " + path + ": it is no regular file"};
  constexpr std::int64_t kNsPerS = 1'000'000'000;
  const std::int64_t mtime_ns = status.st_mtim.tv_sec * kNsPerS + status.st_mtim.tv_nsec;
  return wire::FileStamp{path, static_cast<std::uint64_t>(status.st_size),
                         static_cast<std::uint64_t>(std::max<std::int64_t>(0, mtime_ns)), status.st_ino};
}

base::Result<wire::FileStamp> stamp_open_file(const std::string& path, int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return file_error("cannot look at", path, errno);
  return stamp_of(path, status);
}

/// OpenSSL's, which uses the processor's own instructions for it where there are some.
class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    good_ = context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1;
  }
  void add(std::span<const std::byte> bytes) {
    good_ = good_ && EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1;
  }
  base::Result<std::string> hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    good_ = good_ && EVP_DigestFinal_ex(context_.get(), digest.data(), &size) == 1;
    if (!good_) return Error{ErrorKind::internal, "OpenSSL cannot compute SHA-256"};
    std::string text;
    for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest.at(i));
    return text;
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
  bool good_ = false;
};

/// One file's bytes, in chunks, each on the way that leaves the page cache as it is.
class QuietReader {
 public:
  QuietReader(const std::string& path, int fd, std::span<std::byte> memory) : path_(path), fd_(fd), memory_(memory) {}

  /// The bytes at `offset`; none at the end of the file.
  base::Result<std::span<const std::byte>> at(std::uint64_t offset, std::uint64_t file_bytes) {
    const std::uint64_t want = std::min<std::uint64_t>(memory_.size(), file_bytes - offset);
    const std::uint64_t resident = resident_bytes(fd_, offset, want).value_or(0);
    if (resident < want && direct()) {
      const std::uint64_t aligned = (want + kDirectAlignBytes - 1) / kDirectAlignBytes * kDirectAlignBytes;
      const std::int64_t got = read(direct_.get(), offset, aligned);
      if (got >= 0) return taken(std::min(static_cast<std::uint64_t>(got), want));
      if (!refuses_direct(errno)) return file_error("cannot read", path_, errno);
      direct_.reset();
    }
    const std::int64_t got = read(fd_, offset, want);
    if (got < 0) return file_error("cannot read", path_, errno);
    if (resident == 0)
      ::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(want), POSIX_FADV_DONTNEED);
    return taken(static_cast<std::uint64_t>(got));
  }

 private:
  bool direct() {
    if (!std::exchange(tried_, true)) direct_ = Fd(::open(path_.c_str(), kOpenFlags | O_DIRECT));
    return static_cast<bool>(direct_);
  }
  [[nodiscard]] std::int64_t read(int fd, std::uint64_t offset, std::uint64_t bytes) const {
    ssize_t got = 0;
    do {
      got = ::pread(fd, memory_.data(), bytes, static_cast<off_t>(offset));
    } while (got < 0 && errno == EINTR);
    return got;
  }
  [[nodiscard]] std::span<const std::byte> taken(std::uint64_t bytes) const { return memory_.first(bytes); }

  const std::string& path_;
  int fd_;
  std::span<std::byte> memory_;
  Fd direct_;
  bool tried_ = false;
};

}  // namespace

base::Result<wire::FileStamp> stamp_file(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return file_error("cannot look at", path, errno);
  return stamp_of(path, status);
}

base::Result<HashedFile> hash_file(const std::string& path, const MayGoOn& may_go_on) {
  const Fd fd(::open(path.c_str(), kOpenFlags));
  if (!fd) return file_error("cannot open", path, errno);
  THAW_ASSIGN_OR_RETURN(wire::FileStamp before, stamp_open_file(path, fd.get()));
  THAW_ASSIGN_OR_RETURN(const ReadMemory memory, ReadMemory::allocate(kHashChunkBytes));
  QuietReader reader(path, fd.get(), memory.span());
  Sha256 digest;
  for (std::uint64_t offset = 0; offset < before.bytes;) {
    if (!may_go_on()) return Error{ErrorKind::unavailable, "the hashing of " + path + " was ended early"};
    THAW_ASSIGN_OR_RETURN(const auto bytes, reader.at(offset, before.bytes));
    if (bytes.empty()) break;  // cut short meanwhile, which its stamp shows
    digest.add(bytes);
    offset += bytes.size();
  }
  // By its path: another file may have taken its place.
  THAW_ASSIGN_OR_RETURN(const wire::FileStamp after, stamp_file(path));
  if (after != before)
    return Error{ErrorKind::conflict,
                 fmt::format("{} changed while it was read: {}", path, wire::describe_change(before, after))};
  THAW_ASSIGN_OR_RETURN(std::string sha256, digest.hex());
  return HashedFile{std::move(before), std::move(sha256)};
}

}  // namespace thaw::node
