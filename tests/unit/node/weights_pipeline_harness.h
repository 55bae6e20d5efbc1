#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "node/weights/pipeline/loader.h"
#include "node/weights/read_queue.h"
#include "unit/node/emulated_driver.h"
#include "unit/node/weights_files.h"

/// Loads into memory of the host and of emulated devices, whose contents are then read back.
namespace thaw::node::pipeline::test {

using node::test::byte_at;
using node::test::DiskDirectory;
using node::test::emulated_library;
using node::test::EmulatedDriver;
using node::test::EmulatorSettings;
using node::test::write_weights;
using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

inline constexpr std::uint64_t kMiB = 1U << 20;

/// A read queue that does with each completion what a test wants.
class QueueBetween : public ReadQueue {
 public:
  using Change = std::function<void(ReadCompletion&)>;
  QueueBetween(std::unique_ptr<ReadQueue> inner, Change change)
      : inner_(std::move(inner)), change_(std::move(change)) {}
  void begin(unsigned slot, std::uint64_t from, int fd, std::uint64_t offset, std::uint64_t bytes) override {
    inner_->begin(slot, from, fd, offset, bytes);
  }
  base::Result<ReadCompletion> wait() override {
    auto completion = inner_->wait();
    if (!completion.ok()) return completion;
    ReadCompletion changed = *completion;
    change_(changed);
    return changed;
  }

 private:
  std::unique_ptr<ReadQueue> inner_;
  Change change_;
};

class PipelineTest : public ::testing::Test {
 protected:
  PipelineTest() {
    settings_.set("THAW_EMULATOR_DEVICES", "4");
    settings_.set("THAW_EMULATOR_MEMORY_MIB", "256");
    driver_.reset();
    EXPECT_EQ(driver_.call<cuInit_t>("cuInit", 0U), kCudaSuccess);
    options_.cuda_library = emulated_library("libcuda.so.1");
    options_.ring = {64U << 10, 8};  // small, so that everything is cut into many chunks
  }
  ~PipelineTest() override { driver_.reset(); }

  Loader& loader() {
    if (!loader_) loader_ = Loader::open(options_).value();
    return *loader_;
  }
  std::string file(const std::string& name, std::uint64_t bytes) { return write_weights(directory_ / name, bytes); }

  /// Memory of a device, or of the host, for a tensor. Stays until the test ends.
  std::uint64_t memory_on(int device, std::uint64_t bytes) {
    if (device == kHost) {
      host_.emplace_back(bytes);
      return reinterpret_cast<std::uint64_t>(host_.back().data());
    }
    auto& context = contexts_[device];
    if (!context) context = std::make_unique<EmulatedDriver::Context>(driver_, device);
    EXPECT_EQ(driver_.call<cuCtxSetCurrent_t>("cuCtxSetCurrent", context->get()), kCudaSuccess);
    CUdeviceptr address = 0;
    EXPECT_EQ(driver_.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &address, bytes), kCudaSuccess);
    return address;
  }
  TensorPart tensor(std::uint64_t offset, std::uint64_t bytes, int device, std::uint32_t file = 0) {
    TensorPart part;
    part.file = file;
    part.offset = offset;
    part.row_bytes = bytes;
    part.device = device;
    part.destination = bytes > 0 ? memory_on(device, bytes) : 0;
    return part;
  }
  TensorPart columns(std::uint64_t offset, std::uint64_t row_bytes, std::uint64_t rows, std::uint64_t stride,
                     int device) {
    TensorPart part = tensor(offset, row_bytes, device);
    part.rows = rows;
    part.file_stride = stride;
    part.destination = memory_on(device, row_bytes * rows);
    return part;
  }

  std::vector<char> contents(const TensorPart& part) {
    std::vector<char> read(part.bytes());
    if (part.device == kHost) {
      std::memcpy(read.data(), reinterpret_cast<const void*>(part.destination),
                  read.size());  // NOLINT(performance-no-int-to-ptr)
    } else if (!read.empty()) {
      EXPECT_EQ(driver_.call<cuCtxSetCurrent_t>("cuCtxSetCurrent", contexts_.at(part.device)->get()), kCudaSuccess);
      EXPECT_EQ(driver_.call<cuMemcpyDtoH_v2_t>("cuMemcpyDtoH_v2", static_cast<void*>(read.data()), part.destination,
                                                read.size()),
                kCudaSuccess);
    }
    return read;
  }
  /// That a tensor holds what the file has there.
  void expect_arrived(const TensorPart& part) {
    const std::vector<char> read = contents(part);
    for (std::uint64_t row = 0; row < part.rows; ++row) {
      for (std::uint64_t i = 0; i < part.row_bytes; ++i)
        ASSERT_EQ(read[row * part.row_bytes + i],
                  byte_at(part.offset + row * std::max(part.file_stride, part.row_bytes) + i))
            << "byte " << i << " of row " << row;
    }
  }

  /// Waits for the end. The error's message, or empty.
  static std::string outcome(Load& load, std::vector<std::uint32_t>* done = nullptr) {
    for (;;) {
      const auto event = load.next(std::nullopt);
      if (!event.ok()) return event.error().message;
      if ((*event)->kind == LoadEvent::Kind::end) return "";
      if ((*event)->kind == LoadEvent::Kind::done && done != nullptr) done->push_back((*event)->tensor);
    }
  }
  std::string load(const std::vector<std::string>& files, const std::vector<TensorPart>& tensors) {
    auto started = loader().start(files, tensors);
    if (!started.ok()) return started.error().message;
    last_ = std::move(started).value();
    return outcome(*last_);
  }

  EmulatorSettings settings_;
  EmulatedDriver driver_;
  DiskDirectory directory_;
  LoaderOptions options_;
  std::map<int, std::unique_ptr<EmulatedDriver::Context>> contexts_;
  std::deque<std::vector<char>> host_;
  std::unique_ptr<Loader> loader_;
  std::shared_ptr<Load> last_;
};

}  // namespace thaw::node::pipeline::test
