/// The smallest engine with its model on emulated GPUs: fills memory of each visible device, listens on a Unix socket,
/// and says the same to every prompt as long as it finds on its devices what it wrote there. Like a real one it answers
/// its health check without asking a device.
///
///     gpu-engine LIBRARY MIB --host SOCKET [-m IGNORED]
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "node/device/cuda_abi.h"
#include "node/device/shared_library.h"

namespace {

using namespace thaw::node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using thaw::node::SharedLibrary;

constexpr int kBacklog = 64;
constexpr std::size_t kStepBytes = 4096;  // of which the first bytes are checked
constexpr std::size_t kMaxRequest = 64U << 10;

class Gpus {
 public:
  Gpus(const std::string& library, std::size_t bytes) : library_(SharedLibrary::open(library).value()), bytes_(bytes) {
    run<cuInit_t>("cuInit", 0U);
    int count = 0;
    run<cuDeviceGetCount_t>("cuDeviceGetCount", &count);
    std::vector<std::uint64_t> pattern(bytes_ / sizeof(std::uint64_t));
    for (int device = 0; device < count; ++device) {
      Memory memory;
      run<cuDevicePrimaryCtxRetain_t>("cuDevicePrimaryCtxRetain", &memory.context, device);
      run<cuCtxSetCurrent_t>("cuCtxSetCurrent", memory.context);
      run<cuMemAlloc_v2_t>("cuMemAlloc_v2", &memory.address, bytes_);
      for (std::size_t i = 0; i < pattern.size(); ++i) pattern[i] = value_at(i);
      run<cuMemcpyHtoD_v2_t>("cuMemcpyHtoD_v2", memory.address, static_cast<const void*>(pattern.data()), bytes_);
      devices_.push_back(memory);
    }
  }

  bool good() {
    for (const Memory& memory : devices_) {
      run<cuCtxSetCurrent_t>("cuCtxSetCurrent", memory.context);
      for (std::size_t at = 0; at < bytes_; at += kStepBytes) {
        std::uint64_t value = 0;
        run<cuMemcpyDtoH_v2_t>("cuMemcpyDtoH_v2", static_cast<void*>(&value), memory.address + at, sizeof value);
        if (value != value_at(at / sizeof value)) return false;
      }
    }
    return true;
  }

 private:
  struct Memory {
    CUcontext context = nullptr;
    CUdeviceptr address = 0;
  };
  static std::uint64_t value_at(std::size_t index) { return (index + 1) * 0x9E3779B97F4A7C15ULL; }

  template <typename Function, typename... Args>
  void run(const char* name, Args... args) {
    const auto function = library_.find<Function>(name);
    const CUresult code = function.ok() ? (*function)(args...) : kCudaErrorNotSupported;
    if (code == kCudaSuccess) return;
    std::fprintf(stderr, "gpu-engine: %s returned %d\n", name, code);
    ::_exit(1);
  }

  SharedLibrary library_;
  std::size_t bytes_;
  std::vector<Memory> devices_;
};

void answer(int fd, Gpus& gpus) {
  std::string request;
  std::array<char, 4096> chunk{};
  while (request.find("\r\n\r\n") == std::string::npos && request.size() < kMaxRequest) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got <= 0) break;
    request.append(chunk.data(), static_cast<std::size_t>(got));
  }
  const bool asked = request.starts_with("POST ");
  const std::string body = !asked        ? "{}"
                           : gpus.good() ? R"({"choices":[{"text":"all there","index":0}]})"
                                         : R"({"choices":[{"text":"lost","index":0}]})";
  const std::string head =
      "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n";
  const std::string text = head + body;
  [[maybe_unused]] const ssize_t wrote = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
  ::close(fd);
}

int listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return -1;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd, kBacklog) != 0)
    return -1;
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  std::string socket_path;
  for (int i = 3; i + 1 < argc; ++i)
    if (std::string_view(argv[i]) == "--host") socket_path = argv[i + 1];
  if (argc < 3 || socket_path.empty()) {
    std::fprintf(stderr, "usage: gpu-engine LIBRARY MIB --host SOCKET\n");
    return 2;
  }
  Gpus gpus(argv[1], std::stoull(argv[2]) << 20);
  const int listener = listen_at(socket_path);
  if (listener < 0) {
    std::perror("gpu-engine: cannot listen");
    return 1;
  }
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0)
      std::thread(answer, fd, std::ref(gpus))
          .detach();  // one that waits for a device must not hold up the health check
  }
}
