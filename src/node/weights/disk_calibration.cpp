#include "node/weights/disk_calibration.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/units.h"
#include "node/sandbox/clock.h"
#include "node/weights/direct_file.h"
#include "node/weights/read_memory.h"
#include "node/weights/read_queue.h"
#include "node/weights/settings_search.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kBlockBytes = 4ULL << 20;   // of writing
constexpr std::uint64_t kSyncBytes = 16ULL << 20;   // between looks at the clock
constexpr std::uint64_t kLeastBytes = 32ULL << 20;  // of a file written to a disk however slow
constexpr double kSampleSeconds = 0.02;
constexpr std::uint64_t kSampleMemories = 4;  // a sample reads at least that often what is under way at once

/// A file to read, in `path`. Either somebody's, or ours without a name.
struct Specimen {
  Fd fd;
  std::string path;
  std::uint64_t bytes = 0;
};

/// Bytes that neither compress nor repeat: some disks would not store others.
void fill_with_noise(std::vector<std::uint64_t>& block, std::uint64_t& state) {
  for (std::uint64_t& word : block) {
    state ^= state << 13U;
    state ^= state >> 7U;
    state ^= state << 17U;
    word = state;
  }
}

base::Result<Fd> nameless_file(const std::string& directory) {
  Fd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) {
    if (!fd) return file_error("cannot make a file to measure in", directory, errno);
    return fd;
  }
  std::string name = directory + "/.thaw-calibration-XXXXXX";
  fd = Fd(::mkostemp(name.data(), O_CLOEXEC));
  if (!fd) return file_error("cannot make a file to measure in", directory, errno);
  ::unlink(name.c_str());
  return fd;
}

base::Result<Specimen> write_specimen(const std::string& directory, const CalibrationLimits& limits) {
  struct statvfs room {};
  if (::statvfs(directory.c_str(), &room) != 0) return file_error("cannot look at", directory, errno);
  const std::uint64_t free_bytes = std::uint64_t{room.f_bavail} * room.f_frsize;
  if (free_bytes / 2 < limits.file_bytes)
    return base::Error{base::ErrorKind::exhausted,
                       "cannot measure " + directory + ": " + base::format_bytes(free_bytes) + " free, and a file of " +
                           base::format_bytes(limits.file_bytes) + " is to be written; free some space"};
  Specimen specimen;
  THAW_ASSIGN_OR_RETURN(specimen.fd, nameless_file(directory));
  specimen.path = "/proc/self/fd/" + std::to_string(specimen.fd.get());
  std::vector<std::uint64_t> block(kBlockBytes / sizeof(std::uint64_t));
  std::uint64_t state = 0x9E3779B97F4A7C15ULL;
  const base::TimePoint end = now() + limits.write;
  while (specimen.bytes < limits.file_bytes && (specimen.bytes < kLeastBytes || now() < end)) {
    fill_with_noise(block, state);
    const ssize_t wrote = ::pwrite(specimen.fd.get(), block.data(), kBlockBytes, static_cast<off_t>(specimen.bytes));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return file_error("cannot write a file to measure in", directory, wrote < 0 ? errno : ENOSPC);
    specimen.bytes += static_cast<std::uint64_t>(wrote);
    if (specimen.bytes % kSyncBytes == 0 && ::fdatasync(specimen.fd.get()) != 0)
      return file_error("cannot write a file to measure in", directory, errno);
  }
  if (::fsync(specimen.fd.get()) != 0) return file_error("cannot write a file to measure in", directory, errno);
  ::posix_fadvise(specimen.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  return specimen;
}

base::Result<Specimen> find_specimen(const std::string& path, const CalibrationLimits& limits) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return file_error("cannot look at", path, errno);
  if (S_ISDIR(status.st_mode)) return write_specimen(path, limits);
  const auto bytes = static_cast<std::uint64_t>(status.st_size);
  if (S_ISREG(status.st_mode) && bytes >= limits.file_bytes) return Specimen{Fd(), path, bytes};
  const std::string directory = std::filesystem::path(path).parent_path().string();
  return write_specimen(directory.empty() ? "." : directory, limits);
}

/// Reads one part of a file after the other, and tells how fast they came.
class Sampler {
 public:
  Sampler(const Specimen& specimen, std::span<std::byte> memory, bool with_ring)
      : specimen_(specimen), memory_(memory), with_ring_(with_ring) {}

  base::Result<double> operator()(const ReadSettings& settings) {
    THAW_ASSIGN_OR_RETURN(DirectReader* const reader, reader_for(settings));
    const std::uint64_t wanted =
        std::max(kSampleMemories * settings.memory_bytes(), static_cast<std::uint64_t>(rate_ * kSampleSeconds));
    const std::uint64_t chunks = std::max<std::uint64_t>(1, std::min(wanted, specimen_.bytes) / settings.chunk_bytes);
    const std::uint64_t bytes = std::min(chunks * settings.chunk_bytes, specimen_.bytes);
    if (next_ + bytes > specimen_.bytes) next_ = 0;
    arrivals_.clear();
    THAW_ASSIGN_OR_RETURN(const ReadReport report,
                          reader->read({{specimen_.path, next_, bytes}}, [this](const ReadChunk&) -> base::Status {
                            arrivals_.push_back(now());
                            return {};
                          }));
    buffered_ = buffered_ || report.buffered_bytes > 0;
    next_ += bytes;
    rate_ = rate_of(report, settings);
    return rate_;
  }

  [[nodiscard]] bool buffered() const { return buffered_; }

 private:
  /// While as many reads were under way as there may be: a load is long, and a sample's beginning and end would weigh
  /// too much.
  [[nodiscard]] double rate_of(const ReadReport& report, const ReadSettings& settings) const {
    if (arrivals_.size() < 2 * std::size_t{settings.depth} + 1) return report.bytes_per_s();
    const std::size_t last = arrivals_.size() - settings.depth;
    const double seconds = base::to_s(arrivals_[last] - arrivals_[settings.depth - 1]);
    const std::uint64_t bytes = (last - settings.depth + 1) * settings.chunk_bytes;
    return seconds > 0 ? static_cast<double>(bytes) / seconds : report.bytes_per_s();
  }

  base::Result<DirectReader*> reader_for(const ReadSettings& settings) {
    for (const auto& [known, reader] : readers_)
      if (known == settings) return reader.get();
    // All into the same memory: one reads at a time.
    THAW_ASSIGN_OR_RETURN(auto opened, DirectReader::open(settings, memory_, with_ring_));
    readers_.emplace_back(settings, std::move(opened));
    return readers_.back().second.get();
  }

  const Specimen& specimen_;
  std::span<std::byte> memory_;
  bool with_ring_;
  std::vector<std::pair<ReadSettings, std::unique_ptr<DirectReader>>> readers_;  // no more than there are candidates
  std::vector<base::TimePoint> arrivals_;
  std::uint64_t next_ = 0;
  double rate_ = 0;
  bool buffered_ = false;
};

/// Why io_uring is not to be had; empty when it is.
std::string ring_refusal(std::span<std::byte> memory) {
  const auto ring = make_ring_queue({memory.first(ReadSettings::kMinChunkBytes)});
  return ring.ok() ? "" : ring.error().message;
}

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

base::Result<DiskCalibration> calibrate_disk(const std::string& path, const CalibrationLimits& limits) {
  DiskCalibration calibration;
  THAW_ASSIGN_OR_RETURN(calibration.disk, disk_of(path));
  THAW_ASSIGN_OR_RETURN(const Specimen specimen, find_specimen(path, limits));
  THAW_ASSIGN_OR_RETURN(const ReadMemory memory, ReadMemory::allocate(kMaxSearchedMemoryBytes));
  calibration.threads_why = limits.with_ring ? ring_refusal(memory.span()) : "io_uring was not wanted";
  Sampler sampler(specimen, memory.span(), calibration.threads_why.empty());

  THAW_ASSIGN_OR_RETURN(calibration.bytes_per_s, sampler(calibration.settings));
  if (sampler.buffered()) {
    calibration.buffered_why = calibration.disk.file_system.empty()
                                   ? "direct I/O is refused"
                                   : calibration.disk.file_system + " refuses direct I/O";
  } else {
    THAW_ASSIGN_OR_RETURN(
        const FoundSettings found,
        search_settings({[&sampler](const ReadSettings& settings) { return sampler(settings); }, now, limits.search}));
    calibration.settings = found.settings;
    calibration.bytes_per_s = found.bytes_per_s;
  }
  calibration.unix_s = unix_seconds();
  return calibration;
}

}  // namespace thaw::node
