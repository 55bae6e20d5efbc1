#include "store/usage_journal_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "base/crc32c.h"

namespace thaw::store {
namespace {

constexpr std::size_t kHeaderBytes = 4096;
constexpr std::uint32_t kMaxSlots = 1U << 22U;
constexpr char kMagic[8] = {'t', 'h', 'a', 'w', 'u', 's', 'g', '1'};

struct Header {
  char magic[8];
  std::uint32_t slot_bytes;
  std::uint32_t slots;
  std::uint32_t crc;  ///< of all before it
};

std::size_t size_of(std::uint32_t slots) { return kHeaderBytes + std::size_t{slots} * sizeof(UsageSlot); }

Header make_header(std::uint32_t slots) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.slot_bytes = sizeof(UsageSlot);
  header.slots = slots;
  header.crc = base::crc32c(&header, offsetof(Header, crc));
  return header;
}

/// Blocks for all of it now. Where the file system cannot promise any, zeros are written.
base::Status allocate(int fd, std::size_t bytes, const std::string& path) {
  const auto failed = [&](int error) {
    base::Error failure = base::errno_error("cannot allocate the usage journal " + path, error);
    if (error == ENOSPC) failure.message += "; it takes " + std::to_string(bytes >> 20U) + " MiB, free some space on its disk";
    return failure;
  };
  int error = 0;
  do error = fallocate(fd, 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  while (error == EINTR);
  if (error == 0) return {};
  if (error != EOPNOTSUPP && error != ENOSYS) return failed(error);
  const std::array<char, 65'536> zeros{};
  for (std::size_t at = 0; at < bytes;) {
    const ssize_t count = pwrite(fd, zeros.data(), std::min(zeros.size(), bytes - at), static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return failed(errno);
    at += static_cast<std::size_t>(count);
  }
  return {};
}

/// The number of slots of a journal; 0: the file is none, or was made only half.
std::uint32_t slots_of(int fd) {
  Header header{};
  struct stat status {};
  if (pread(fd, &header, sizeof header, 0) != sizeof header || fstat(fd, &status) != 0) return 0;
  const Header expected = make_header(header.slots);
  if (std::memcmp(&header, &expected, sizeof header) != 0 || header.slots == 0 || header.slots > kMaxSlots) return 0;
  return static_cast<std::size_t>(status.st_size) == size_of(header.slots) ? header.slots : 0;
}

/// Closes a descriptor that nobody has taken over.
struct Closer {
  int fd;
  ~Closer() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

base::Result<UsageJournalFile> UsageJournalFile::open(const std::string& path, std::uint32_t slots, std::string& set_aside) {
  set_aside.clear();
  constexpr mode_t kOwnerOnly = 0600;  // who asked what when
  Closer file{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kOwnerOnly)};
  if (file.fd < 0) return base::errno_error("cannot open the usage journal " + path, errno);
  if (flock(file.fd, LOCK_EX | LOCK_NB) != 0)
    return base::Error{base::ErrorKind::conflict, "another process uses the usage journal " + path + "; stop that server, or choose another --data-dir"};
  struct stat status {};
  if (fstat(file.fd, &status) != 0) return base::errno_error("cannot look at the usage journal " + path, errno);
  std::uint32_t found = slots_of(file.fd);
  if (found == 0 && status.st_size > 0) {
    set_aside = path + ".damaged";
    if (::rename(path.c_str(), set_aside.c_str()) != 0) return base::errno_error("cannot move the damaged usage journal " + path + " aside", errno);
    std::string ignored;
    return open(path, slots, ignored);
  }
  if (found == 0) {
    THAW_RETURN_IF_ERROR(allocate(file.fd, size_of(slots), path));
    const Header header = make_header(slots);  // last: with it the file is a journal
    if (pwrite(file.fd, &header, sizeof header, 0) != sizeof header) return base::errno_error("cannot write the usage journal " + path, errno);
    found = slots;
  }
  void* const mapping = mmap(nullptr, size_of(found), PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
  if (mapping == MAP_FAILED) return base::errno_error("cannot map the usage journal " + path, errno);
  return UsageJournalFile(std::exchange(file.fd, -1), mapping, size_of(found));
}

UsageJournalFile::UsageJournalFile(int fd, void* mapping, std::size_t bytes)
    : fd_(fd),
      mapping_(mapping),
      bytes_(bytes),
      slots_(reinterpret_cast<UsageSlot*>(static_cast<char*>(mapping) + kHeaderBytes), (bytes - kHeaderBytes) / sizeof(UsageSlot)) {}

UsageJournalFile::UsageJournalFile(UsageJournalFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      mapping_(std::exchange(other.mapping_, nullptr)),
      bytes_(other.bytes_),
      slots_(std::exchange(other.slots_, {})) {}

UsageJournalFile::~UsageJournalFile() {
  if (mapping_ != nullptr) munmap(mapping_, bytes_);
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace thaw::store
