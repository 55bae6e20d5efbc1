#include "weights/ways.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <thread>

#include "node/sandbox/fd.h"

namespace thaw::bench {
namespace {

using node::Fd;

#ifndef MADV_POPULATE_READ
constexpr int MADV_POPULATE_READ = 22;
#endif

/// One worker: its own descriptor, as the kernel's readahead follows a descriptor, and a buffer where the way needs
/// one.
struct Worker {
  Fd file;
  Fd null;
  std::vector<char> buffer;
};

using Step = std::function<bool(Worker&, std::uint64_t offset, std::uint64_t bytes)>;

bool by_sendfile(Worker& worker, std::uint64_t offset, std::uint64_t bytes) {
  auto at = static_cast<off_t>(offset);
  const auto end = static_cast<off_t>(offset + bytes);
  while (at < end)
    if (::sendfile(worker.null.get(), worker.file.get(), &at, static_cast<std::size_t>(end - at)) <= 0) return false;
  return true;
}

bool by_pread(Worker& worker, std::uint64_t offset, std::uint64_t bytes) {
  constexpr std::uint64_t kStepBytes = 128ULL << 10;  // stays in the processor's cache
  worker.buffer.resize(kStepBytes);
  for (std::uint64_t done = 0; done < bytes;) {
    const ssize_t got = ::pread(worker.file.get(), worker.buffer.data(), std::min(kStepBytes, bytes - done),
                                static_cast<off_t>(offset + done));
    if (got <= 0) return false;
    done += static_cast<std::uint64_t>(got);
  }
  return true;
}

/// What was only asked for is waited for: one byte a page.
bool touch(Worker& worker, std::uint64_t offset, std::uint64_t bytes) {
  return by_sendfile(worker, offset, bytes);
}

bool by_readahead(Worker& worker, std::uint64_t offset, std::uint64_t bytes) {
  return ::readahead(worker.file.get(), static_cast<off64_t>(offset), bytes) == 0 && touch(worker, offset, bytes);
}

bool by_willneed(Worker& worker, std::uint64_t offset, std::uint64_t bytes) {
  return ::posix_fadvise(worker.file.get(), static_cast<off_t>(offset), static_cast<off_t>(bytes),
                         POSIX_FADV_WILLNEED) == 0 &&
         touch(worker, offset, bytes);
}

bool by_populate(Worker& worker, std::uint64_t offset, std::uint64_t bytes, bool huge, bool exact = false) {
  constexpr std::uint64_t kHugeBytes = 2ULL << 20;
  void* const reserved =
      ::mmap(nullptr, bytes + kHugeBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return false;
  char* const aligned =
      reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(reserved) + kHugeBytes - 1) / kHugeBytes * kHugeBytes);
  void* const mapping =
      ::mmap(aligned, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, worker.file.get(), static_cast<off_t>(offset));
  bool filled = mapping != MAP_FAILED;
  if (filled && huge) ::madvise(mapping, bytes, MADV_HUGEPAGE);
  if (filled && exact) ::madvise(mapping, bytes, MADV_RANDOM);
  filled = filled && ::madvise(mapping, bytes, MADV_POPULATE_READ) == 0;
  ::munmap(reserved, bytes + kHugeBytes);
  return filled;
}

/// Buffered reads by one ring, `workers` of them under way at once.
bool by_ring(const Way& way, const std::string& path, std::uint64_t bytes) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  io_uring ring{};
  if (!file || io_uring_queue_init(way.workers, &ring, 0) != 0) return false;
  std::vector<std::vector<char>> buffers(way.workers, std::vector<char>(way.chunk_bytes));
  std::vector<unsigned> free_buffers;
  for (unsigned i = 0; i < way.workers; ++i) free_buffers.push_back(i);
  bool filled = true;
  std::uint64_t next = 0;
  while (filled && (next < bytes || free_buffers.size() < way.workers)) {
    while (next < bytes && !free_buffers.empty()) {
      const unsigned buffer = free_buffers.back();
      free_buffers.pop_back();
      const std::uint64_t step = std::min(way.chunk_bytes, bytes - next);
      io_uring_sqe* const entry = io_uring_get_sqe(&ring);
      io_uring_prep_read(entry, file.get(), buffers[buffer].data(), static_cast<unsigned>(step), next);
      io_uring_sqe_set_data64(entry, buffer);
      next += step;
    }
    io_uring_cqe* ended = nullptr;
    io_uring_submit_and_wait(&ring, 1);
    while (io_uring_peek_cqe(&ring, &ended) == 0) {
      filled = filled && ended->res > 0;
      free_buffers.push_back(static_cast<unsigned>(io_uring_cqe_get_data64(ended)));
      io_uring_cqe_seen(&ring, ended);
    }
  }
  io_uring_queue_exit(&ring);
  return filled;
}

bool by_workers(const Way& way, const std::string& path, std::uint64_t bytes, int advice, const Step& step) {
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> filled{true};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < way.workers; ++i)
    threads.emplace_back([&] {
      Worker worker{Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)), {}};
      if (advice != POSIX_FADV_NORMAL) ::posix_fadvise(worker.file.get(), 0, 0, advice);
      for (std::uint64_t at = next.fetch_add(way.chunk_bytes); at < bytes && filled;
           at = next.fetch_add(way.chunk_bytes))
        if (!worker.file || !step(worker, at, std::min(way.chunk_bytes, bytes - at))) filled = false;
    });
  for (std::thread& thread : threads) thread.join();
  return filled;
}

using Fill = std::function<bool(const Way&, const std::string&, std::uint64_t)>;

const std::map<std::string, Fill>& ways() {
  const auto working = [](int advice, Step step) -> Fill {
    return [advice, step = std::move(step)](const Way& way, const std::string& path, std::uint64_t bytes) {
      return by_workers(way, path, bytes, advice, step);
    };
  };
  static const std::map<std::string, Fill> all{
      {"pread", working(POSIX_FADV_NORMAL, by_pread)},
      {"pread-sequential", working(POSIX_FADV_SEQUENTIAL, by_pread)},
      {"sendfile", working(POSIX_FADV_NORMAL, by_sendfile)},
      {"sendfile-sequential", working(POSIX_FADV_SEQUENTIAL, by_sendfile)},
      {"readahead", working(POSIX_FADV_NORMAL, by_readahead)},
      {"willneed", working(POSIX_FADV_NORMAL, by_willneed)},
      {"populate", working(POSIX_FADV_NORMAL,
                           [](Worker& w, std::uint64_t o, std::uint64_t b) { return by_populate(w, o, b, false); })},
      {"populate-huge", working(POSIX_FADV_NORMAL, [](Worker& w, std::uint64_t o,
                                                      std::uint64_t b) { return by_populate(w, o, b, true); })},
      {"populate-huge-exact",
       working(POSIX_FADV_NORMAL,
               [](Worker& w, std::uint64_t o, std::uint64_t b) { return by_populate(w, o, b, true, true); })},
      {"ring", by_ring},
  };
  return all;
}

}  // namespace

std::vector<std::string> way_names() {
  std::vector<std::string> names;
  for (const auto& [name, fill] : ways()) names.push_back(name);
  return names;
}

bool fill_by(const Way& way, const std::string& path, std::uint64_t bytes) {
  const auto found = ways().find(way.name);
  return found != ways().end() && found->second(way, path, bytes);
}

}  // namespace thaw::bench
