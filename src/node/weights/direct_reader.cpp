#include "node/weights/direct_reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/sandbox/clock.h"
#include "node/sandbox/fd.h"
#include "node/weights/read_queue.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kAlignBytes = 4096;  // O_DIRECT wants the disk's block size, which is no more than this on Linux
constexpr unsigned kMaxRestarts = 1000;      // of reads that the kernel interrupted or had no resources for

constexpr std::uint64_t align_down(std::uint64_t bytes) { return bytes / kAlignBytes * kAlignBytes; }
constexpr std::uint64_t align_up(std::uint64_t bytes) { return align_down(bytes + kAlignBytes - 1); }

/// One range, open.
struct Source {
  std::string path;
  Fd fd;
  Fd refused;  ///< the direct descriptor of a file that was reopened: reads of it may be under way
  bool direct = true;
  std::uint64_t next = 0;  ///< where the next chunk begins
  std::uint64_t end = 0;
};

/// A chunk under way.
struct Slot {
  std::size_t source = 0;
  std::uint64_t offset = 0;
  std::uint64_t wanted_bytes = 0;
  std::uint64_t got_bytes = 0;
};

base::Error file_error(const std::string& what, const std::string& path, int number) {
  base::Error error = base::errno_error(what + " " + path, number);
  if (number == ENOENT || number == ENOTDIR) error.kind = base::ErrorKind::not_found;
  if (number == EACCES || number == EPERM) error.kind = base::ErrorKind::denied;
  return error;
}

bool refuses_direct(int number) { return number == EINVAL || number == EOPNOTSUPP; }

base::Result<Source> open_source(const ReadRange& range) {
  if (range.offset % kAlignBytes != 0)
    return base::Error{base::ErrorKind::invalid, fmt::format("cannot read {} from byte {}: direct reads begin at multiples of {}", range.path, range.offset, kAlignBytes)};
  Source source;
  source.path = range.path;
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  source.fd = Fd(::open(range.path.c_str(), kFlags | O_DIRECT));
  if (!source.fd && refuses_direct(errno)) {
    source.direct = false;
    source.fd = Fd(::open(range.path.c_str(), kFlags));
  }
  if (!source.fd) return file_error("cannot open", range.path, errno);
  struct stat status {};
  if (::fstat(source.fd.get(), &status) != 0 || !S_ISREG(status.st_mode))
    return base::Error{base::ErrorKind::invalid, "cannot read " + range.path + ": it is no regular file"};
  const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
  source.next = std::min(range.offset, file_bytes);
  source.end = source.next + std::min(range.bytes, file_bytes - source.next);
  return source;
}

}  // namespace

double ReadReport::bytes_per_s() const {
  const double seconds = base::to_s(duration);
  return seconds > 0 ? static_cast<double>(bytes) / seconds : 0;
}

struct DirectReader::Impl {
  ReadSettings settings;
  ReadSlots memory;
  std::unique_ptr<ReadQueue> queue;
  bool told_buffered = false;

  // Of one read().
  std::vector<Source> sources;
  std::vector<Slot> slots;
  std::size_t turn = 0;
  unsigned in_flight = 0;
  unsigned restarts = 0;
  ReadReport report;

  base::Status open_sources(const std::vector<ReadRange>& ranges);
  bool begin_next(unsigned slot);
  void begin(unsigned slot);
  base::Status go_buffered(Source& source, const std::string& why);
  /// One read has ended: begins the rest of its chunk, or hands it over and begins the next.
  base::Status take(const ReadCompletion& completion, const Sink& sink);
  base::Status take_failed(const ReadCompletion& completion);
  base::Status run(const Sink& sink);
  void drain();
};

base::Status DirectReader::Impl::open_sources(const std::vector<ReadRange>& ranges) {
  if (ranges.size() > kMaxRanges) return base::Error{base::ErrorKind::invalid, fmt::format("cannot read {} ranges at once; {} at most", ranges.size(), kMaxRanges)};
  sources.clear();
  for (const ReadRange& range : ranges) {
    THAW_ASSIGN_OR_RETURN(Source source, open_source(range));
    if (!source.direct) THAW_RETURN_IF_ERROR(go_buffered(source, "its file system refuses direct I/O"));
    sources.push_back(std::move(source));
  }
  return {};
}

base::Status DirectReader::Impl::go_buffered(Source& source, const std::string& why) {
  if (!told_buffered) spdlog::warn("{} is read through the page cache, which is slower: {}", source.path, why);
  told_buffered = true;
  if (source.direct) source.refused = std::exchange(source.fd, Fd());
  if (!source.fd) source.fd = Fd(::open(source.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!source.fd) return file_error("cannot open", source.path, errno);
  source.direct = false;
  ::posix_fadvise(source.fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  return {};
}

bool DirectReader::Impl::begin_next(unsigned slot) {
  for (std::size_t tried = 0; tried < sources.size(); ++tried) {
    const std::size_t index = turn++ % sources.size();
    Source& source = sources[index];
    if (source.next == source.end) continue;
    slots[slot] = {index, source.next, std::min(settings.chunk_bytes, source.end - source.next), 0};
    source.next += slots[slot].wanted_bytes;
    begin(slot);
    return true;
  }
  return false;
}

void DirectReader::Impl::begin(unsigned slot) {
  const Slot& at = slots[slot];
  // Whole blocks, also where the file ends within one: the read is short then.
  const std::uint64_t bytes = align_up(at.wanted_bytes) - at.got_bytes;
  queue->begin(slot, at.got_bytes, sources[at.source].fd.get(), at.offset + at.got_bytes, bytes);
  ++in_flight;
}

base::Status DirectReader::Impl::take_failed(const ReadCompletion& completion) {
  Source& source = sources[slots[completion.slot].source];
  const int number = static_cast<int>(-completion.result);
  if (refuses_direct(number) && source.direct) {
    THAW_RETURN_IF_ERROR(go_buffered(source, "the disk refuses direct reads of this alignment"));
  } else {
    // Refused again: it was asked for before the file was reopened.
    const bool passes = number == EINTR || number == EAGAIN || refuses_direct(number);
    if (!passes || ++restarts > kMaxRestarts)
      return file_error(fmt::format("cannot read from byte {} of", slots[completion.slot].offset), source.path, number);
  }
  begin(completion.slot);
  return {};
}

base::Status DirectReader::Impl::take(const ReadCompletion& completion, const Sink& sink) {
  if (completion.result < 0) return take_failed(completion);
  Slot& slot = slots[completion.slot];
  const Source& source = sources[slot.source];
  const std::uint64_t got = slot.got_bytes + static_cast<std::uint64_t>(completion.result);
  if (got < slot.wanted_bytes) {
    if (align_down(got) <= slot.got_bytes)
      return base::Error{base::ErrorKind::invalid, fmt::format("{} was cut short while it was read, at byte {}", source.path, slot.offset + got)};
    slot.got_bytes = align_down(got);
    begin(completion.slot);
    return {};
  }
  report.bytes += slot.wanted_bytes;
  if (!source.direct) report.buffered_bytes += slot.wanted_bytes;
  THAW_RETURN_IF_ERROR(sink({slot.source, slot.offset, memory[completion.slot].first(slot.wanted_bytes)}));
  begin_next(completion.slot);
  return {};
}

base::Status DirectReader::Impl::run(const Sink& sink) {
  for (unsigned slot = 0; slot < settings.depth && begin_next(slot); ++slot) {
  }
  while (in_flight > 0) {
    THAW_ASSIGN_OR_RETURN(const ReadCompletion completion, queue->wait());
    --in_flight;
    THAW_RETURN_IF_ERROR(take(completion, sink));
  }
  return {};
}

void DirectReader::Impl::drain() {
  while (in_flight > 0 && queue->wait().ok()) --in_flight;
}

DirectReader::DirectReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DirectReader::~DirectReader() = default;

base::Result<std::unique_ptr<DirectReader>> DirectReader::open(const ReadSettings& settings, std::span<std::byte> memory, bool with_ring) {
  const bool chunk_fits = settings.chunk_bytes >= ReadSettings::kMinChunkBytes && settings.chunk_bytes <= ReadSettings::kMaxChunkBytes;
  if (!chunk_fits || settings.chunk_bytes % kAlignBytes != 0 || settings.depth == 0 || settings.depth > ReadSettings::kMaxDepth)
    return base::Error{base::ErrorKind::invalid, fmt::format("cannot read in chunks of {} bytes, {} at once: a chunk is a multiple of {} up to {}, and there are 1 to {}",
                                                             settings.chunk_bytes, settings.depth, kAlignBytes, ReadSettings::kMaxChunkBytes, ReadSettings::kMaxDepth)};
  if (memory.size() < settings.memory_bytes() || reinterpret_cast<std::uintptr_t>(memory.data()) % kAlignBytes != 0)
    return base::Error{base::ErrorKind::invalid, fmt::format("the memory to read into must be {} page-aligned bytes", settings.memory_bytes())};

  auto impl = std::make_unique<Impl>();
  impl->settings = settings;
  impl->slots.resize(settings.depth);
  for (std::uint32_t i = 0; i < settings.depth; ++i) impl->memory.push_back(memory.subspan(i * settings.chunk_bytes, settings.chunk_bytes));
  if (with_ring) {
    auto ring = make_ring_queue(impl->memory);
    if (ring.ok())
      impl->queue = std::move(ring).value();
    else
      spdlog::warn("weights are read by threads, which is slower: {}; `thaw doctor` has the remedy", ring.error().message);
  }
  if (!impl->queue) impl->queue = make_thread_queue(impl->memory);
  return std::unique_ptr<DirectReader>(new DirectReader(std::move(impl)));
}

base::Result<ReadReport> DirectReader::read(const std::vector<ReadRange>& ranges, const Sink& sink) {
  const base::TimePoint begun = now();
  impl_->report = {};
  impl_->turn = 0;
  impl_->restarts = 0;
  base::Status status = impl_->open_sources(ranges);
  if (status.ok()) status = impl_->run(sink);
  impl_->drain();  // after an error: the caller's memory is the caller's again
  impl_->sources.clear();
  if (!status.ok()) return status.error();
  impl_->report.duration = now() - begun;
  return impl_->report;
}

}  // namespace thaw::node
