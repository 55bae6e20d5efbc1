#include <cstring>
#include <numeric>
#include <thread>

#include "node/weights/read_memory.h"
#include "unit/node/emulated_driver.h"

namespace thaw::node::test {
namespace {

using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

constexpr std::size_t kMiB = 1U << 20;

/// What the product relies on of the driver, shown to be what the emulator does: a lenient one would hide faults.
class EmulatorDriver : public ::testing::Test {
 protected:
  EmulatorDriver() {
    settings_.set("THAW_EMULATOR_DEVICES", "2");
    settings_.set("THAW_EMULATOR_MEMORY_MIB", "64");
    settings_.set("THAW_EMULATOR_CONTEXT_MIB", "4");
    driver_.reset();
    EXPECT_EQ(driver_.call<cuInit_t>("cuInit", 0U), kCudaSuccess);
  }
  ~EmulatorDriver() override { driver_.reset(); }

  CUdeviceptr allocate(std::size_t bytes) const {
    CUdeviceptr address = 0;
    EXPECT_EQ(driver_.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &address, bytes), kCudaSuccess);
    return address;
  }
  CUstream stream() const {
    CUstream stream = nullptr;
    EXPECT_EQ(driver_.call<cuStreamCreate_t>("cuStreamCreate", &stream, kCudaStreamNonBlocking), kCudaSuccess);
    return stream;
  }
  CUresult copy(CUdeviceptr to, const void* from, std::size_t bytes, CUstream on) const {
    return driver_.call<cuMemcpyHtoDAsync_v2_t>("cuMemcpyHtoDAsync_v2", to, from, bytes, on);
  }
  CUresult synchronize(CUstream on) const { return driver_.call<cuStreamSynchronize_t>("cuStreamSynchronize", on); }
  CUresult query(CUstream on) const { return driver_.call<cuStreamQuery_t>("cuStreamQuery", on); }
  std::vector<std::byte> contents(CUdeviceptr from, std::size_t bytes) const {
    std::vector<std::byte> read(bytes);
    EXPECT_EQ(driver_.call<cuMemcpyDtoH_v2_t>("cuMemcpyDtoH_v2", static_cast<void*>(read.data()), from, bytes),
              kCudaSuccess);
    return read;
  }
  /// Bytes that differ from place to place.
  static ReadMemory pattern(std::size_t bytes) {
    ReadMemory memory = ReadMemory::allocate(bytes).value();
    for (std::size_t i = 0; i < bytes; ++i) memory.span()[i] = static_cast<std::byte>(i * 131 + i / 251);
    return memory;
  }
  CUresult pin(const ReadMemory& memory) const {
    return driver_.call<cuMemHostRegister_v2_t>("cuMemHostRegister_v2", static_cast<void*>(memory.span().data()),
                                                memory.span().size(), kCudaHostPortable);
  }
  CUresult unpin(const ReadMemory& memory) const {
    return driver_.call<cuMemHostUnregister_t>("cuMemHostUnregister", static_cast<void*>(memory.span().data()));
  }

  EmulatorSettings settings_;
  EmulatedDriver driver_;
};

TEST_F(EmulatorDriver, MemoryIsLimitedCountedAndGivenBack) {
  {
    const EmulatedDriver::Context context(driver_, 0);
    std::size_t free = 0;
    std::size_t total = 0;
    ASSERT_EQ(driver_.call<cuMemGetInfo_v2_t>("cuMemGetInfo_v2", &free, &total), kCudaSuccess);
    EXPECT_EQ(total, 64 * kMiB);
    EXPECT_EQ(free, 60 * kMiB) << "the context takes 4";
    const CUdeviceptr first = allocate(40 * kMiB);
    CUdeviceptr second = 0;
    EXPECT_EQ(driver_.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &second, 20 * kMiB + 1), kCudaErrorOutOfMemory);
    second = allocate(20 * kMiB);
    EXPECT_EQ(driver_.call<cuMemFree_v2_t>("cuMemFree_v2", first), kCudaSuccess);
    EXPECT_EQ(driver_.call<cuMemFree_v2_t>("cuMemFree_v2", first), kCudaErrorInvalidValue) << "twice";
    EXPECT_EQ(driver_.counts().device_bytes, 20 * kMiB);
  }
  EXPECT_EQ(driver_.counts().device_bytes, 0U) << "memory goes with its context";
  EXPECT_EQ(driver_.counts().contexts, 0U);
}

TEST_F(EmulatorDriver, CallsWithoutAContextAreRefused) {
  CUdeviceptr address = 0;
  EXPECT_EQ(driver_.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &address, kMiB), kCudaErrorInvalidContext);
  const EmulatedDriver::Context context(driver_, 0);
  std::thread([&] {
    EXPECT_EQ(driver_.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &address, kMiB), kCudaErrorInvalidContext)
        << "current in one thread only";
  }).join();
}

TEST_F(EmulatorDriver, CopiesRealBytesInTheOrderOfTheStream) {
  const EmulatedDriver::Context context(driver_, 0);
  const ReadMemory memory = pattern(4 * kMiB);
  ASSERT_EQ(pin(memory), kCudaSuccess);
  const CUdeviceptr device = allocate(2 * kMiB);
  const CUstream on = stream();
  settings_.set("THAW_EMULATOR_BUS_MB_S", "10");  // 2 MiB take 200 ms: longer than this thread is ever kept from its next lines
  ASSERT_EQ(copy(device, memory.span().data(), 2 * kMiB, on), kCudaSuccess);
  EXPECT_EQ(query(on), kCudaErrorNotReady) << "asynchronous";
  CUevent event = nullptr;
  ASSERT_EQ(driver_.call<cuEventCreate_t>("cuEventCreate", &event, kCudaEventDisableTiming), kCudaSuccess);
  EXPECT_EQ(driver_.call<cuEventQuery_t>("cuEventQuery", event), kCudaSuccess) << "never recorded";
  ASSERT_EQ(driver_.call<cuEventRecord_t>("cuEventRecord", event, on), kCudaSuccess);
  EXPECT_EQ(driver_.call<cuEventQuery_t>("cuEventQuery", event), kCudaErrorNotReady);
  ASSERT_EQ(driver_.call<cuEventSynchronize_t>("cuEventSynchronize", event), kCudaSuccess);
  settings_.set("THAW_EMULATOR_BUS_MB_S", "0");
  EXPECT_EQ(std::memcmp(contents(device, 2 * kMiB).data(), memory.span().data(), 2 * kMiB), 0);
  // The second overwrites a part of the first.
  ASSERT_EQ(copy(device, memory.span().data(), kMiB, on), kCudaSuccess);
  ASSERT_EQ(copy(device + 100, memory.span().data() + 3 * kMiB, 50, on), kCudaSuccess);
  ASSERT_EQ(synchronize(on), kCudaSuccess);
  const auto read = contents(device, 200);
  EXPECT_EQ(std::memcmp(read.data(), memory.span().data(), 100), 0);
  EXPECT_EQ(std::memcmp(read.data() + 100, memory.span().data() + 3 * kMiB, 50), 0);
  EXPECT_EQ(std::memcmp(read.data() + 150, memory.span().data() + 150, 50), 0);
  EXPECT_EQ(driver_.counts().pageable_copies, 0U);
  EXPECT_EQ(unpin(memory), kCudaSuccess);
}

TEST_F(EmulatorDriver, CopiesRowsOfAMatrix) {
  const EmulatedDriver::Context context(driver_, 0);
  const ReadMemory memory = pattern(kMiB);
  const CUdeviceptr device = allocate(kMiB);
  const CUstream on = stream();
  CUDA_MEMCPY2D rows{};
  rows.srcMemoryType = kCudaMemoryHost;
  rows.srcHost = memory.span().data() + 10;
  rows.srcPitch = 1000;
  rows.dstMemoryType = kCudaMemoryDevice;
  rows.dstDevice = device;
  rows.dstPitch = 300;
  rows.WidthInBytes = 300;
  rows.Height = 5;
  ASSERT_EQ(driver_.call<cuMemcpy2DAsync_v2_t>("cuMemcpy2DAsync_v2", static_cast<const CUDA_MEMCPY2D*>(&rows), on),
            kCudaSuccess);
  ASSERT_EQ(synchronize(on), kCudaSuccess);
  const auto read = contents(device, 1500);
  for (std::size_t row = 0; row < 5; ++row)
    EXPECT_EQ(std::memcmp(read.data() + row * 300, memory.span().data() + 10 + row * 1000, 300), 0) << row;
  rows.dstPitch = 299;
  EXPECT_EQ(driver_.call<cuMemcpy2DAsync_v2_t>("cuMemcpy2DAsync_v2", static_cast<const CUDA_MEMCPY2D*>(&rows), on),
            kCudaErrorInvalidValue);
}

TEST_F(EmulatorDriver, MemoryThatIsNotPinnedIsCopiedBeforeTheCallReturns) {
  const EmulatedDriver::Context context(driver_, 0);
  const ReadMemory memory = pattern(kMiB);
  const CUdeviceptr device = allocate(kMiB);
  const CUstream on = stream();
  settings_.set("THAW_EMULATOR_BUS_MB_S", "500");
  ASSERT_EQ(copy(device, memory.span().data(), kMiB, on), kCudaSuccess);
  EXPECT_EQ(query(on), kCudaSuccess);
  EXPECT_EQ(driver_.counts().pageable_copies, 1U);
}

TEST_F(EmulatorDriver, WrongAddressesAndHandlesAreRefused) {
  const EmulatedDriver::Context first(driver_, 0);
  const ReadMemory memory = pattern(kMiB);
  const CUdeviceptr device = allocate(kMiB);
  const CUstream on = stream();
  EXPECT_EQ(copy(device + 1, memory.span().data(), kMiB, on), kCudaErrorInvalidValue) << "beyond the end";
  EXPECT_EQ(copy(1234, memory.span().data(), 1, on), kCudaErrorInvalidValue);
  const EmulatedDriver::Context second(driver_, 1);
  EXPECT_EQ(copy(device, memory.span().data(), 1, on), kCudaErrorInvalidHandle) << "another context's stream";
  EXPECT_EQ(copy(device, memory.span().data(), 1, stream()), kCudaErrorInvalidValue) << "another device's memory";
}

TEST_F(EmulatorDriver, MemoryIsPinnedOnce) {
  const EmulatedDriver::Context context(driver_, 0);
  const ReadMemory memory = pattern(kMiB);
  EXPECT_EQ(unpin(memory), kCudaErrorHostMemoryNotRegistered);
  ASSERT_EQ(pin(memory), kCudaSuccess);
  EXPECT_EQ(pin(memory), kCudaErrorHostMemoryAlreadyRegistered);
  EXPECT_EQ(driver_.counts().pinned_bytes, kMiB);
  EXPECT_EQ(unpin(memory), kCudaSuccess);
}

TEST_F(EmulatorDriver, FailuresComeWhenTheyAreAskedFor) {
  const EmulatedDriver::Context context(driver_, 0);
  settings_.set("THAW_EMULATOR_FAIL", "cuMemAlloc_v2=2@2,cuMemFree_v2=999@2+");
  const CUdeviceptr first = allocate(1);
  CUdeviceptr other = 0;
  EXPECT_EQ(driver_.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &other, 1UL), 2);
  other = allocate(1);
  EXPECT_EQ(driver_.call<cuMemFree_v2_t>("cuMemFree_v2", first), kCudaSuccess);
  EXPECT_EQ(driver_.call<cuMemFree_v2_t>("cuMemFree_v2", other), 999);
  EXPECT_EQ(driver_.call<cuMemFree_v2_t>("cuMemFree_v2", other), 999);
}

TEST_F(EmulatorDriver, AFailedCopyIsToldLaterAndSpoilsTheContext) {
  const EmulatedDriver::Context context(driver_, 0);
  const ReadMemory memory = pattern(kMiB);
  ASSERT_EQ(pin(memory), kCudaSuccess);
  const CUdeviceptr device = allocate(kMiB);
  const CUstream on = stream();
  settings_.set("THAW_EMULATOR_FAIL", "copy=700@2");
  ASSERT_EQ(copy(device, memory.span().data(), 100, on), kCudaSuccess);
  ASSERT_EQ(synchronize(on), kCudaSuccess);
  ASSERT_EQ(copy(device, memory.span().data(), 100, on), kCudaSuccess);
  EXPECT_EQ(synchronize(on), 700);
  CUdeviceptr other = 0;
  EXPECT_EQ(driver_.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &other, 1UL), 700);
  driver_.reset();
  EXPECT_EQ(unpin(memory), kCudaSuccess);
}

TEST_F(EmulatorDriver, OnlyVisibleDevicesAreSeen) {
  settings_.set("THAW_EMULATOR_DEVICES", "3");
  settings_.set("THAW_EMULATOR_NAME", "A,B,C");
  const auto seen = [&] {
    int count = 0;
    EXPECT_EQ(driver_.call<cuDeviceGetCount_t>("cuDeviceGetCount", &count), kCudaSuccess);
    std::string names;
    for (int device = 0; device < count; ++device) {
      std::array<char, 32> name{};
      EXPECT_EQ(driver_.call<cuDeviceGetName_t>("cuDeviceGetName", name.data(), 32, device), kCudaSuccess);
      names += name.data();
    }
    return names;
  };
  EXPECT_EQ(seen(), "ABC");
  settings_.set("CUDA_VISIBLE_DEVICES", "2,0");
  EXPECT_EQ(seen(), "CA");
  settings_.set("CUDA_VISIBLE_DEVICES", "1,-1,0");
  EXPECT_EQ(seen(), "B");
  settings_.set("CUDA_VISIBLE_DEVICES", "GPU-c0c1");  // the third: 0xA0 + 2 * 16
  EXPECT_EQ(seen(), "C");
  settings_.set("CUDA_VISIBLE_DEVICES", "");
  EXPECT_EQ(driver_.call<cuInit_t>("cuInit", 0U), kCudaErrorNoDevice);
}

}  // namespace
}  // namespace thaw::node::test
