/// How much of the ideal does the pipeline reach? Loads a file onto emulated devices whose buses, and through a queue
/// that holds the disk, have set rates; checks every byte that arrives. Says one line of JSON for each load;
/// bench/pipeline.mjs makes the table.
///
///     bench-pipeline FILE MIB EMULATOR ROUNDS     makes FILE of that size first; EMULATOR: the emulated libcuda.so.1
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "node/device/cuda_driver.h"
#include "node/sandbox/fd.h"
#include "node/weights/pipeline/loader.h"
#include "node/weights/read_queue.h"

namespace {

using namespace thaw::node;            // NOLINT(google-build-using-namespace): a program of one file
using namespace thaw::node::pipeline;  // NOLINT(google-build-using-namespace)
using namespace thaw::node::cuda_abi;  // NOLINT(google-build-using-namespace)
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kTensorBytes = 16 * kMiB;
constexpr std::uint64_t kFirstByte = 1000;  // nothing in a file of weights is aligned to a block
constexpr std::uint64_t kRowBytes = 16384;

std::atomic<double> loader_cpu_s = 0;

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "bench-pipeline: %s\n", message.c_str());
  std::exit(1);  // NOLINT(concurrency-mt-unsafe)
}
void must(const thaw::base::Status& status) {
  if (!status.ok()) fail(status.error().message);
}

/// What the file has at a multiple of eight.
std::uint64_t word_at(std::uint64_t offset) {
  return (offset + 1) * 0x9E3779B97F4A7C15ULL;
}

double thread_cpu_s() {
  struct timespec time {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

/// A disk of a set rate, in front of the real one: it carries one read after the other in the order in which they
/// begin, and is idle while none is under way. The reads themselves are real.
class DiskOfRate : public ReadQueue {
 public:
  DiskOfRate(std::unique_ptr<ReadQueue> disk, std::size_t slots, std::uint64_t mb_s)
      : disk_(std::move(disk)), reads_(slots), mb_s_(mb_s) {
    ::prctl(PR_SET_TIMERSLACK, 1);
  }
  void begin(unsigned slot, std::uint64_t from, int fd, std::uint64_t offset, std::uint64_t bytes) override {
    free_at_ = std::max(free_at_, Clock::now());
    if (mb_s_ > 0) free_at_ += std::chrono::nanoseconds(bytes * 1000 / mb_s_);
    reads_[slot] = {true, false, 0, free_at_};
    disk_->begin(slot, from, fd, offset, bytes);
  }
  thaw::base::Result<ReadCompletion> wait() override {
    loader_cpu_s = thread_cpu_s();
    auto next = reads_.end();
    for (auto read = reads_.begin(); read != reads_.end(); ++read) {
      if (read->under_way && (next == reads_.end() || read->due < next->due)) next = read;
    }
    while (!next->ended) {
      THAW_ASSIGN_OR_RETURN(const ReadCompletion completion, disk_->wait());
      reads_[completion.slot].ended = true;
      reads_[completion.slot].result = completion.result;
    }
    next->under_way = false;
    std::this_thread::sleep_until(next->due);
    return ReadCompletion{static_cast<unsigned>(next - reads_.begin()), next->result};
  }

 private:
  struct Read {
    bool under_way = false;
    bool ended = false;
    std::int64_t result = 0;
    Clock::time_point due;
  };
  std::unique_ptr<ReadQueue> disk_;
  std::vector<Read> reads_;
  std::uint64_t mb_s_;
  Clock::time_point free_at_;
};

void make_file(const std::string& path, std::uint64_t bytes) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) fail("cannot make " + path);
  std::vector<std::uint64_t> block(kMiB / 8);
  for (std::uint64_t at = 0; at < bytes; at += kMiB) {
    for (std::uint64_t i = 0; i < block.size(); ++i) block[i] = word_at(at + i * 8);
    if (::write(fd.get(), block.data(), kMiB) != static_cast<ssize_t>(kMiB)) fail("cannot write " + path);
  }
  ::fsync(fd.get());
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
}

struct Case {
  std::uint64_t disk_mb_s;
  std::uint64_t bus_mb_s;
  int devices;
};

/// The devices' memory, and the tensors that fill it: for several devices half of the tensors are cut across rows, half
/// across columns.
class Layout {
 public:
  Layout(const CudaDriver& driver, std::uint64_t file_bytes, int devices) : driver_(driver) {
    const std::uint64_t count = (file_bytes - kFirstByte) / kTensorBytes;
    for (int device = 0; device < devices; ++device) {
      CUcontext context = nullptr;
      CUdeviceptr address = 0;
      must(driver.call<cuDevicePrimaryCtxRetain_t>("cuDevicePrimaryCtxRetain", &context, device));
      must(driver.call<cuCtxSetCurrent_t>("cuCtxSetCurrent", context));
      const std::uint64_t shard_bytes = kTensorBytes / static_cast<unsigned>(devices);
      must(driver.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &address, count * shard_bytes));
      contexts_.push_back(context);
      for (std::uint64_t i = 0; i < count; ++i) {
        TensorPart part;
        part.device = device;
        part.offset = kFirstByte + i * kTensorBytes;
        part.destination = address + i * shard_bytes;
        const auto rank = static_cast<unsigned>(device);
        if (i % 2 == 0) {
          part.offset += rank * shard_bytes;
          part.row_bytes = shard_bytes;
        } else {
          part.row_bytes = kRowBytes / static_cast<unsigned>(devices);
          part.offset += rank * part.row_bytes;
          part.rows = kTensorBytes / kRowBytes;
          part.file_stride = kRowBytes;
        }
        tensors_.push_back(part);
      }
    }
  }
  ~Layout() {
    for (std::size_t device = 0; device < contexts_.size(); ++device)
      (void)driver_.call<cuDevicePrimaryCtxRelease_v2_t>("cuDevicePrimaryCtxRelease_v2", static_cast<CUdevice>(device));
  }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;

  [[nodiscard]] const std::vector<TensorPart>& tensors() const { return tensors_; }

  /// Touches all of it: a device's memory does not come page by page.
  void wipe() const {
    const std::vector<std::uint64_t> zeros(kTensorBytes / 8);
    for (const TensorPart& part : tensors_) {
      must(driver_.call<cuCtxSetCurrent_t>("cuCtxSetCurrent", contexts_[static_cast<std::size_t>(part.device)]));
      must(driver_.call<cuMemcpyHtoD_v2_t>("cuMemcpyHtoD_v2", part.destination, static_cast<const void*>(zeros.data()),
                                           part.bytes()));
    }
  }

  /// Reads everything back, compares, and wipes it.
  void verify() const {
    std::vector<std::uint64_t> read(kTensorBytes / 8);
    for (const TensorPart& part : tensors_) {
      must(driver_.call<cuCtxSetCurrent_t>("cuCtxSetCurrent", contexts_[static_cast<std::size_t>(part.device)]));
      must(driver_.call<cuMemcpyDtoH_v2_t>("cuMemcpyDtoH_v2", static_cast<void*>(read.data()), part.destination,
                                           part.bytes()));
      std::size_t word = 0;
      for (std::uint64_t row = 0; row < part.rows; ++row) {
        for (std::uint64_t i = 0; i < part.row_bytes; i += 8, ++word) {
          if (read[word] != word_at(part.offset + row * part.file_stride + i)) fail("a byte is not what the file has");
        }
      }
    }
    wipe();
  }

 private:
  const CudaDriver& driver_;
  std::vector<CUcontext> contexts_;
  std::vector<TensorPart> tensors_;
};

void load(Loader& loader, const std::string& file, const std::vector<TensorPart>& tensors) {
  auto started = loader.start({file}, tensors);
  if (!started.ok()) fail(started.error().message);
  for (;;) {
    const auto event = (*started)->next(std::nullopt);
    if (!event.ok()) fail(event.error().message);
    if ((*event)->kind == LoadEvent::Kind::end) return;
  }
}

void measure(const Case& one, const std::string& file, const std::string& emulator, const Layout& layout, int rounds) {
  LoaderOptions options;
  options.cuda_library = emulator;
  options.make_queue = [&](const ReadSlots& slots) -> thaw::base::Result<std::unique_ptr<ReadQueue>> {
    THAW_ASSIGN_OR_RETURN(auto ring, make_ring_queue(slots));
    return std::unique_ptr<ReadQueue>(std::make_unique<DiskOfRate>(std::move(ring), slots.size(), one.disk_mb_s));
  };
  const auto loader = Loader::open(options).value();
  load(*loader, file, {layout.tensors().front()});  // the ring is pinned once per process
  std::uint64_t bytes = 0;
  std::uint64_t of_device = 0;
  for (const TensorPart& part : layout.tensors()) {
    bytes += part.bytes();
    of_device += part.device == 0 ? part.bytes() : 0;
  }
  for (int round = 0; round < rounds; ++round) {
    ::setenv("THAW_EMULATOR_BUS_MB_S", std::to_string(one.bus_mb_s).c_str(),
             1);  // NOLINT(concurrency-mt-unsafe): nothing runs
    const double cpu_before = loader_cpu_s;
    const auto begun = Clock::now();
    load(*loader, file, layout.tensors());
    const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    const double cpu_s = loader_cpu_s - cpu_before;
    ::setenv("THAW_EMULATOR_BUS_MB_S", "0", 1);  // NOLINT(concurrency-mt-unsafe)
    layout.verify();
    std::printf(
        "{\"disk_mb_s\":%llu,\"bus_mb_s\":%llu,\"devices\":%d,\"bytes\":%llu,\"bytes_of_device\":%llu,\"seconds\":%.6f,"
        "\"loader_cpu_s\":%.6f}\n",
        static_cast<unsigned long long>(one.disk_mb_s), static_cast<unsigned long long>(one.bus_mb_s), one.devices,
        static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(of_device), seconds, cpu_s);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) fail("usage: bench-pipeline FILE MIB EMULATOR ROUNDS");
  const std::string file = argv[1];
  const std::uint64_t bytes = std::stoull(argv[2]) * kMiB;
  const int rounds = std::stoi(argv[4]);
  ::setenv("THAW_EMULATOR_DEVICES", "4", 1);  // NOLINT(concurrency-mt-unsafe)
  make_file(file, bytes);
  const CudaDriver driver = CudaDriver::open(argv[3]).value();
  must(driver.call<cuInit_t>("cuInit", 0U));
  for (const int devices : {1, 4}) {
    const Layout layout(driver, bytes, devices);
    layout.wipe();
    for (const std::uint64_t disk_mb_s : {700ULL, 1400ULL}) {
      for (const std::uint64_t bus_mb_s : {2500ULL, 5500ULL})
        measure({disk_mb_s, bus_mb_s, devices}, file, argv[3], layout, rounds);
    }
    if (devices == 1) measure({1400, 1000, 1}, file, argv[3], layout, rounds);  // a bus slower than the disk
    measure({0, 0, devices}, file, argv[3], layout, rounds);                    // as fast as this machine is
  }
  return 0;
}
