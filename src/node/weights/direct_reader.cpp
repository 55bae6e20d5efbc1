#include "node/weights/direct_reader.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/sandbox/clock.h"
#include "node/weights/direct_file.h"
#include "node/weights/read_queue.h"
#include "node/weights/said_once.h"

namespace thaw::node {
namespace {

constexpr unsigned kMaxRestarts =
    1000;  // of one chunk, where the kernel was interrupted, lacked something for a moment or gave nothing

constexpr std::uint64_t align_down(std::uint64_t bytes) {
  return bytes / kDirectAlignBytes * kDirectAlignBytes;
}
constexpr std::uint64_t align_up(std::uint64_t bytes) {
  return align_down(bytes + kDirectAlignBytes - 1);
}

/// One range, with something left to begin.
struct Source {
  std::size_t range = 0;
  std::size_t file = 0;
  std::uint64_t next = 0;  ///< where the next chunk begins
  std::uint64_t end = 0;
};

/// A chunk under way.
struct Slot {
  std::size_t range = 0;
  std::size_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t wanted_bytes = 0;
  std::uint64_t got_bytes = 0;  ///< of them; what direct reads continue from is aligned
  unsigned restarts = 0;
};

base::Error bad_settings(const ReadSettings& settings) {
  return {
      base::ErrorKind::invalid,
      fmt::format(
          "cannot read in chunks of {} bytes, {} at once: a chunk is a multiple of {} up to {}, and there are 1 to {}",
          settings.chunk_bytes, settings.depth, kDirectAlignBytes, ReadSettings::kMaxChunkBytes,
          ReadSettings::kMaxDepth)};
}

base::Error lost_track() {
  return {base::ErrorKind::internal,
          "cannot read: this reader has lost track of an earlier read; open another one, with other memory"};
}

}  // namespace

bool ReadSettings::in_range() const {
  return chunk_bytes >= kMinChunkBytes && chunk_bytes <= kMaxChunkBytes && chunk_bytes % kDirectAlignBytes == 0 &&
         depth >= 1 && depth <= kMaxDepth;
}

double ReadReport::bytes_per_s() const {
  const double seconds = base::to_s(duration);
  return seconds > 0 ? static_cast<double>(bytes) / seconds : 0;
}

struct DirectReader::Impl {
  ReadSettings settings;
  ReadSlots memory;
  std::unique_ptr<ReadQueue> queue;
  bool lost = false;  ///< reads are under way that nobody can wait for

  // Of one read().
  std::vector<DirectFile> files;
  std::vector<Source> sources;
  std::vector<Slot> slots;
  std::size_t turn = 0;
  std::size_t in_turns = 0;
  unsigned in_flight = 0;
  base::TimePoint begun;
  ReadReport report;

  base::Status open_sources(const std::vector<ReadRange>& ranges);
  /// The next chunk of the next range in turn; false when all have begun.
  bool begin_next(unsigned slot);
  void begin(unsigned slot);
  base::Status begin_again(unsigned slot, const base::Error& reason);
  base::Result<ReadCompletion> wait();
  /// One read has ended: its chunk, or nothing when the rest of it had to begin.
  base::Result<std::optional<ReadChunk>> take(const ReadCompletion& completion);
  base::Status take_failed(const ReadCompletion& completion);
  base::Status take_short(unsigned slot, std::uint64_t got_bytes);
};

base::Status DirectReader::Impl::open_sources(const std::vector<ReadRange>& ranges) {
  if (ranges.size() > kMaxRanges)
    return base::Error{base::ErrorKind::invalid,
                       fmt::format("cannot read {} ranges at once; {} at most", ranges.size(), kMaxRanges)};
  std::map<std::string, std::size_t> opened;  // many ranges may lie in one file
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const ReadRange& range = ranges[i];
    if (range.offset % kDirectAlignBytes != 0)
      return base::Error{base::ErrorKind::invalid,
                         fmt::format("cannot read {} from byte {}: direct reads begin at multiples of {}", range.path,
                                     range.offset, kDirectAlignBytes)};
    const auto [found, is_new] = opened.try_emplace(range.path, files.size());
    if (is_new) {
      THAW_ASSIGN_OR_RETURN(DirectFile file, DirectFile::open(range.path));
      files.push_back(std::move(file));
    }
    const std::uint64_t file_bytes = files[found->second].bytes();
    const std::uint64_t begin = std::min(range.offset, file_bytes);
    const std::uint64_t bytes = std::min(range.bytes, file_bytes - begin);
    if (bytes > 0) sources.push_back({i, found->second, begin, begin + bytes});
  }
  return {};
}

bool DirectReader::Impl::begin_next(unsigned slot) {
  if (sources.empty()) return false;
  turn = turn < std::min(sources.size(), in_turns) ? turn : 0;
  Source& source = sources[turn];
  slots[slot] = {
      source.range, source.file, source.next, std::min(settings.chunk_bytes, source.end - source.next), 0, 0};
  source.next += slots[slot].wanted_bytes;
  if (source.next == source.end)
    sources.erase(sources.begin() + static_cast<std::ptrdiff_t>(turn));
  else
    ++turn;
  begin(slot);
  return true;
}

void DirectReader::Impl::begin(unsigned slot) {
  const Slot& at = slots[slot];
  // Whole blocks, also where the file ends within one: the read is short then.
  const std::uint64_t bytes = align_up(at.wanted_bytes) - at.got_bytes;
  queue->begin(slot, at.got_bytes, files[at.file].fd(), at.offset + at.got_bytes, bytes);
  ++in_flight;
}

base::Status DirectReader::Impl::begin_again(unsigned slot, const base::Error& reason) {
  if (++slots[slot].restarts > kMaxRestarts) return reason;
  begin(slot);
  return {};
}

base::Status DirectReader::Impl::take_failed(const ReadCompletion& completion) {
  const Slot& slot = slots[completion.slot];
  DirectFile& file = files[slot.file];
  const int number = static_cast<int>(-completion.result);
  const base::Error error =
      file_error(fmt::format("cannot read from byte {} of", slot.offset + slot.got_bytes), file.path(), number);
  if (refuses_direct(number) && file.direct()) file.go_buffered("its disk refuses direct reads of this alignment");
  // Refused again: it was begun before the file was no longer read directly.
  const bool passes = number == EINTR || number == EAGAIN || refuses_direct(number);
  return passes ? begin_again(completion.slot, error) : base::Status(error);
}

base::Status DirectReader::Impl::take_short(unsigned slot_index, std::uint64_t got_bytes) {
  Slot& slot = slots[slot_index];
  const DirectFile& file = files[slot.file];
  const std::uint64_t kept_bytes = file.direct() ? align_down(got_bytes) : got_bytes;
  const bool came_on = kept_bytes > slot.got_bytes;
  slot.got_bytes = std::max(slot.got_bytes, kept_bytes);
  if (came_on) {
    begin(slot_index);
    return {};
  }
  const std::uint64_t bytes_now = file.bytes_now();
  if (bytes_now < slot.offset + slot.wanted_bytes)
    return base::Error{base::ErrorKind::invalid,
                       fmt::format("{} was cut short to {} bytes while it was read", file.path(), bytes_now)};
  return begin_again(slot_index, {base::ErrorKind::io, fmt::format("cannot read from byte {} of {}: nothing comes",
                                                                   slot.offset + got_bytes, file.path())});
}

base::Result<std::optional<ReadChunk>> DirectReader::Impl::take(const ReadCompletion& completion) {
  const Slot& slot = slots[completion.slot];
  const std::uint64_t got = completion.result < 0 ? 0 : slot.got_bytes + static_cast<std::uint64_t>(completion.result);
  if (completion.result < 0 || got < slot.wanted_bytes) {
    THAW_RETURN_IF_ERROR(completion.result < 0 ? take_failed(completion) : take_short(completion.slot, got));
    return std::optional<ReadChunk>();
  }
  report.bytes += slot.wanted_bytes;
  if (!files[slot.file].direct()) report.buffered_bytes += slot.wanted_bytes;
  return std::optional(
      ReadChunk{slot.range, slot.offset, memory[completion.slot].first(slot.wanted_bytes), completion.slot});
}

base::Result<ReadCompletion> DirectReader::Impl::wait() {
  auto completion = queue->wait();
  if (completion.ok())
    --in_flight;
  else
    lost = true;
  return completion;
}

DirectReader::DirectReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DirectReader::~DirectReader() {
  impl_->queue.reset();  // before the files that it reads
}

base::Result<std::unique_ptr<DirectReader>> DirectReader::open(const ReadSettings& settings,
                                                               std::span<std::byte> memory, bool with_ring) {
  return open_with(settings, memory, [with_ring](const ReadSlots& slots) -> base::Result<std::unique_ptr<ReadQueue>> {
    if (!with_ring) return make_thread_queue(slots);
    auto ring = make_ring_queue(slots);
    if (ring.ok()) return ring;
    if (first_time_said("reads by threads"))
      spdlog::warn("weights are read by threads, which is slower: {}; `thaw doctor` has the remedy",
                   ring.error().message);
    return make_thread_queue(slots);
  });
}

base::Result<std::unique_ptr<DirectReader>> DirectReader::open_with(const ReadSettings& settings,
                                                                    std::span<std::byte> memory,
                                                                    const MakeQueue& make_queue) {
  if (!settings.in_range()) return bad_settings(settings);
  if (memory.size() < settings.memory_bytes() ||
      reinterpret_cast<std::uintptr_t>(memory.data()) % kDirectAlignBytes != 0)
    return base::Error{base::ErrorKind::invalid,
                       fmt::format("the memory to read into must be {} page-aligned bytes", settings.memory_bytes())};
  auto impl = std::make_unique<Impl>();
  impl->settings = settings;
  impl->slots.resize(settings.depth);
  for (std::uint32_t i = 0; i < settings.depth; ++i)
    impl->memory.push_back(memory.subspan(i * settings.chunk_bytes, settings.chunk_bytes));
  THAW_ASSIGN_OR_RETURN(impl->queue, make_queue(impl->memory));
  return std::unique_ptr<DirectReader>(new DirectReader(std::move(impl)));
}

base::Status DirectReader::begin(const std::vector<ReadRange>& ranges, std::size_t in_turns) {
  if (impl_->lost) return lost_track();
  impl_->report = {};
  impl_->turn = 0;
  impl_->in_turns = std::max<std::size_t>(in_turns, 1);
  impl_->begun = now();
  THAW_RETURN_IF_ERROR(impl_->open_sources(ranges));
  for (unsigned slot = 0; slot < impl_->settings.depth && impl_->begin_next(slot); ++slot) {
  }
  return {};
}

base::Result<std::optional<ReadChunk>> DirectReader::next() {
  std::optional<ReadChunk> chunk;
  while (!chunk && impl_->in_flight > 0) {
    THAW_ASSIGN_OR_RETURN(const ReadCompletion completion, impl_->wait());
    THAW_ASSIGN_OR_RETURN(chunk, impl_->take(completion));
  }
  return chunk;
}

void DirectReader::release(unsigned slot) {
  impl_->begin_next(slot);
}

bool DirectReader::finished() const {
  return impl_->sources.empty() && impl_->in_flight == 0;
}

ReadReport DirectReader::report() const {
  ReadReport report = impl_->report;
  report.duration = now() - impl_->begun;
  return report;
}

base::Status DirectReader::end() {
  while (impl_->in_flight > 0 && !impl_->lost) (void)impl_->wait();
  impl_->sources.clear();
  if (impl_->lost) return lost_track();  // and the files stay open: reads of them may be under way
  impl_->files.clear();
  return {};
}

base::Result<ReadReport> DirectReader::read(const std::vector<ReadRange>& ranges, const Sink& sink) {
  const auto hand_over_all = [&]() -> base::Status {
    THAW_RETURN_IF_ERROR(begin(ranges));
    for (;;) {
      THAW_ASSIGN_OR_RETURN(const std::optional<ReadChunk> chunk, next());
      if (!chunk) return {};
      THAW_RETURN_IF_ERROR(sink(*chunk));
      release(chunk->slot);
    }
  };
  const base::Status status = hand_over_all();
  const ReadReport read = report();
  (void)end();  // after an error: the caller's memory is the caller's again
  if (!status.ok()) return status.error();
  return read;
}

}  // namespace thaw::node
