#include <liburing.h>

#include <array>
#include <cerrno>
#include <thread>

#include <spdlog/spdlog.h>

#include "node/weights/read_queue.h"
#include "node/weights/said_once.h"

namespace thaw::node {
namespace {

// Completions are taken when this thread asks for them (6.1, 5.19), and not by interrupting it; plain where the kernel
// knows neither.
constexpr std::array<unsigned, 3> kSetupFlags{IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
                                              IORING_SETUP_COOP_TASKRUN, 0U};
constexpr unsigned kMaxWithoutResources = 1000;  // times that the kernel may lack memory for a request, in a row

class RingQueue : public ReadQueue {
 public:
  explicit RingQueue(const ReadSlots& slots) : slots_(slots) {}
  RingQueue(const RingQueue&) = delete;
  RingQueue& operator=(const RingQueue&) = delete;
  ~RingQueue() override {
    if (open_) io_uring_queue_exit(&ring_);
  }

  base::Status open() {
    int status = -EINVAL;
    for (std::size_t i = 0; i < kSetupFlags.size() && status == -EINVAL; ++i)
      status = io_uring_queue_init(static_cast<unsigned>(slots_.size()), &ring_, kSetupFlags.at(i));
    if (status < 0) return base::errno_error("cannot use io_uring", -status);
    open_ = true;
    std::vector<iovec> buffers;
    buffers.reserve(slots_.size());
    for (const auto& slot : slots_) buffers.push_back({slot.data(), slot.size()});
    registered_ = io_uring_register_buffers(&ring_, buffers.data(), static_cast<unsigned>(buffers.size())) == 0;
    if (!registered_ && first_time_said("unregistered buffers"))
      spdlog::info(
          "buffers for direct reads are not registered, which costs some processor time; raise the limit on locked "
          "memory (ulimit -l)");
    return {};
  }

  void begin(unsigned slot, std::uint64_t from, int fd, std::uint64_t offset, std::uint64_t bytes) override {
    // Never null: the ring has an entry for each slot, and each slot has one read at most.
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    std::byte* const into = slots_[slot].data() + from;
    if (registered_)
      io_uring_prep_read_fixed(entry, fd, into, static_cast<unsigned>(bytes), offset, static_cast<int>(slot));
    else
      io_uring_prep_read(entry, fd, into, static_cast<unsigned>(bytes), offset);
    io_uring_sqe_set_data64(entry, slot);
  }

  base::Result<ReadCompletion> wait() override {
    unsigned without_resources = 0;
    for (;;) {
      // Interrupted, it may have submitted and say so without having waited.
      const int status = io_uring_submit_and_wait(&ring_, 1);
      if (status == -EAGAIN && ++without_resources <= kMaxWithoutResources)
        std::this_thread::yield();
      else if (status < 0 && status != -EINTR)
        return base::errno_error("cannot wait for reads", -status);
      io_uring_cqe* completion = nullptr;
      if (io_uring_peek_cqe(&ring_, &completion) != 0) continue;
      const ReadCompletion ended{static_cast<unsigned>(io_uring_cqe_get_data64(completion)), completion->res};
      io_uring_cqe_seen(&ring_, completion);
      return ended;
    }
  }

 private:
  ReadSlots slots_;
  io_uring ring_{};
  bool open_ = false;
  bool registered_ = false;
};

}  // namespace

base::Result<std::unique_ptr<ReadQueue>> make_ring_queue(const ReadSlots& slots) {
  auto queue = std::make_unique<RingQueue>(slots);
  THAW_RETURN_IF_ERROR(queue->open());
  return std::unique_ptr<ReadQueue>(std::move(queue));
}

}  // namespace thaw::node
