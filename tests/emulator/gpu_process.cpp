/// A process that computes on emulated GPUs, as far as a checkpoint can tell: it fills memory of each device and says
/// on request whether it still finds there what it wrote.
///
///     gpu-process LIBRARY MIB      LIBRARY: the emulated driver; MIB: how much of each visible device it takes
///
/// It says "ready PID", and then answers lines:
///     check        "good", or "bad" and what; waits while the process is locked
///     where        the UUIDs of its devices
///     copy BYTES   "copying": begins that copy to its first device, and does not wait for it
///     quit
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "node/device/cuda_abi.h"
#include "node/device/shared_library.h"

namespace {

using namespace thaw::node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using thaw::node::SharedLibrary;

struct Memory {
  CUcontext context = nullptr;
  CUdeviceptr address = 0;
};

class GpuProcess {
 public:
  GpuProcess(const SharedLibrary& library, std::size_t bytes) : library_(library), bytes_(bytes) {}

  void start() {
    run<cuInit_t>("cuInit", 0U);
    int count = 0;
    run<cuDeviceGetCount_t>("cuDeviceGetCount", &count);
    std::vector<std::uint64_t> pattern(bytes_ / sizeof(std::uint64_t));
    for (int device = 0; device < count; ++device) {
      Memory memory;
      run<cuDevicePrimaryCtxRetain_t>("cuDevicePrimaryCtxRetain", &memory.context, device);
      run<cuCtxSetCurrent_t>("cuCtxSetCurrent", memory.context);
      run<cuMemAlloc_v2_t>("cuMemAlloc_v2", &memory.address, bytes_);
      for (std::size_t i = 0; i < pattern.size(); ++i) pattern[i] = value_at(device, i);
      run<cuMemcpyHtoD_v2_t>("cuMemcpyHtoD_v2", memory.address, static_cast<const void*>(pattern.data()), bytes_);
      devices_.push_back(memory);
    }
    std::cout << "ready " << ::getpid() << std::endl;
  }

  std::string check() {
    std::vector<std::uint64_t> read(bytes_ / sizeof(std::uint64_t));
    for (std::size_t device = 0; device < devices_.size(); ++device) {
      run<cuCtxSetCurrent_t>("cuCtxSetCurrent", devices_[device].context);
      run<cuMemcpyDtoH_v2_t>("cuMemcpyDtoH_v2", static_cast<void*>(read.data()), devices_[device].address, bytes_);
      for (std::size_t i = 0; i < read.size(); ++i) {
        if (read[i] != value_at(static_cast<int>(device), i))
          return "bad: device " + std::to_string(device) + " at word " + std::to_string(i);
      }
    }
    return "good";
  }

  std::string where() {
    std::ostringstream text;
    for (std::size_t device = 0; device < devices_.size(); ++device) {
      CUuuid uuid{};
      run<cuDeviceGetUuid_v2_t>("cuDeviceGetUuid_v2", &uuid, static_cast<CUdevice>(device));
      for (const char byte : uuid.bytes) {
        char pair[3];
        std::snprintf(pair, sizeof pair, "%02x", static_cast<unsigned int>(static_cast<unsigned char>(byte)));
        text << pair;
      }
      text << ' ';
    }
    return text.str();
  }

  void copy(std::size_t bytes) {
    run<cuCtxSetCurrent_t>("cuCtxSetCurrent", devices_.at(0).context);
    void* memory = nullptr;
    CUdeviceptr address = 0;
    CUstream stream = nullptr;
    run<cuMemHostAlloc_t>("cuMemHostAlloc", &memory, bytes, 0U);
    run<cuMemAlloc_v2_t>("cuMemAlloc_v2", &address, bytes);
    run<cuStreamCreate_t>("cuStreamCreate", &stream, kCudaStreamNonBlocking);
    run<cuMemcpyHtoDAsync_v2_t>("cuMemcpyHtoDAsync_v2", address, static_cast<const void*>(memory), bytes, stream);
  }

 private:
  static std::uint64_t value_at(int device, std::size_t index) {
    return (index + 1) * 0x9E3779B97F4A7C15ULL + static_cast<unsigned int>(device);
  }

  template <typename Function, typename... Args>
  void run(const char* name, Args... args) {
    const auto function = library_.find<Function>(name);
    const CUresult code = function.ok() ? (*function)(args...) : kCudaErrorNotSupported;
    if (code == kCudaSuccess) return;
    std::cout << "bad: " << name << " returned " << code << std::endl;
    std::exit(1);  // NOLINT(concurrency-mt-unsafe): its threads only wait
  }

  const SharedLibrary& library_;
  std::size_t bytes_;
  std::vector<Memory> devices_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: gpu-process LIBRARY MIB\n";
    return 2;
  }
  const auto library = SharedLibrary::open(argv[1]);
  if (!library.ok()) {
    std::cerr << library.error().message << '\n';
    return 1;
  }
  GpuProcess process(library.value(), std::stoull(argv[2]) << 20);
  process.start();
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    if (line == "check") {
      std::cout << process.check() << std::endl;
    } else if (line == "where") {
      std::cout << process.where() << std::endl;
    } else if (line.starts_with("copy ")) {
      process.copy(std::stoull(line.substr(5)));
      std::cout << "copying" << std::endl;
    } else {
      std::cout << "bad: " << line << std::endl;
    }
  }
  return 0;
}
