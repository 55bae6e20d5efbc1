#pragma once

#include <array>
#include <cstddef>
#include <new>

/// The problem: a request runs through a dozen coroutines, each of whose frames the general allocator would make and
/// free anew. Frames come in few sizes and go in the order in which they came, so a list of free ones a size serves
/// almost all of them.
namespace thaw::net {

/// One thread's free frames. What a burst needed beyond kMaxFree of a size goes back to the general allocator.
class FramePool {
 public:
  static constexpr std::size_t kStepBytes = 64;
  static constexpr std::size_t kMaxFrameBytes = 2048;  ///< bigger ones are not kept
  static constexpr std::size_t kMaxFree = 256;         ///< of each size: 0.5 MiB at most in the biggest

  static void* take(std::size_t bytes) {
    if (!kPooled || bytes > kMaxFrameBytes) return ::operator new(bytes);
    List& list = mine().lists_[index_of(bytes)];
    if (list.first == nullptr) return ::operator new((index_of(bytes) + 1) * kStepBytes);
    Free* const frame = list.first;
    list.first = frame->next;
    --list.count;
    return frame;
  }

  static void give(void* frame, std::size_t bytes) noexcept {
    if (!kPooled || bytes > kMaxFrameBytes) return ::operator delete(frame);
    List& list = mine().lists_[index_of(bytes)];
    if (list.count >= kMaxFree) return ::operator delete(frame);
    list.first = new (frame) Free{list.first};
    ++list.count;
  }

  FramePool() = default;
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;
  ~FramePool() {
    for (List& list : lists_) {
      while (list.first != nullptr) {
        Free* const frame = list.first;
        list.first = frame->next;
        ::operator delete(frame);
      }
    }
  }

 private:
  struct Free {
    Free* next;
  };
  struct List {
    Free* first = nullptr;
    std::size_t count = 0;
  };

  // Under a sanitizer every frame is the allocator's own, so that its use after its end is seen.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static constexpr bool kPooled = false;
#else
  static constexpr bool kPooled = true;
#endif

  static std::size_t index_of(std::size_t bytes) {
    return (bytes - 1) / kStepBytes;
  }
  static FramePool& mine() {
    thread_local FramePool pool;
    return pool;
  }

  std::array<List, kMaxFrameBytes / kStepBytes> lists_;
};

}  // namespace thaw::net
