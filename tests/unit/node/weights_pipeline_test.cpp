#include <algorithm>
#include <thread>

#include "unit/node/weights_pipeline_harness.h"

namespace thaw::node::pipeline::test {
namespace {

class Pipeline : public PipelineTest {};

TEST_F(Pipeline, FillsTheMemoryOfADevice) {
  const std::string path = file("model", 3 * kMiB + 123);
  // Unaligned, in pieces, a hole, out of order, one byte, none.
  const std::vector<TensorPart> tensors{tensor(1'000'000, 2'000'000, 0), tensor(100, 900'000, 0), tensor(900'100, 1, 0),
                                        tensor(3 * kMiB, 123, 0), tensor(5, 0, 0)};
  ASSERT_EQ(load({path}, tensors), "");
  for (const TensorPart& part : tensors) expect_arrived(part);
  const LoadProgress progress = last_->progress();
  EXPECT_EQ(progress.tensors_done, 5U);
  EXPECT_EQ(progress.bytes_done, 2'000'000U + 900'000U + 1U + 123U);
  EXPECT_EQ(progress.bytes, progress.bytes_done);
  EXPECT_LE(progress.read_bytes, 3 * kMiB + 123);
  EXPECT_EQ(progress.pageable_bytes, 0U);
  EXPECT_EQ(driver_.counts().pinned_bytes, options_.ring.memory_bytes()) << "the ring, and nothing else";
  EXPECT_EQ(driver_.counts().pageable_copies, 0U);
}

TEST_F(Pipeline, FillsTheMemoryOfTheHostWithoutADriver) {
  options_.cuda_library = "/nonexistent/libcuda.so.1";
  const std::string path = file("model", kMiB);
  const std::vector<TensorPart> tensors{tensor(10, 600'000, kHost), columns(600'010, 100, 1000, 300, kHost)};
  ASSERT_EQ(load({path}, tensors), "");
  for (const TensorPart& part : tensors) expect_arrived(part);
}

TEST_F(Pipeline, ShardsOfSeveralDevicesAreReadOnce) {
  const std::string path = file("model", 4 * kMiB);
  std::vector<TensorPart> tensors;
  // A matrix of 512 rows of 4096 bytes, split by rows, and one split by columns; the last device is the host.
  for (int rank = 0; rank < 4; ++rank) {
    const int device = rank < 3 ? rank : kHost;
    tensors.push_back(tensor(1000 + static_cast<std::uint64_t>(rank) * 524'288, 524'288, device));
    tensors.push_back(columns(2'100'000 + static_cast<std::uint64_t>(rank) * 1024, 1024, 500, 4096, device));
  }
  ASSERT_EQ(load({path}, tensors), "");
  for (const TensorPart& part : tensors) expect_arrived(part);
  const LoadProgress progress = last_->progress();
  EXPECT_EQ(progress.bytes_done, 4 * 524'288U + 500 * 4096U);
  EXPECT_LE(progress.read_bytes, 2'100'000U + 500 * 4096U) << "not once for each device";
}

TEST_F(Pipeline, ManyFilesAndTheSameTensorForEveryDevice) {
  std::vector<std::string> files;
  std::vector<TensorPart> tensors;
  for (std::uint32_t i = 0; i < 5; ++i) {
    files.push_back(file("shard" + std::to_string(i), 300'000 + i));
    for (int device = 0; device < 4; ++device) tensors.push_back(tensor(i * 10, 299'000, device, i));
  }
  ASSERT_EQ(load(files, tensors), "");
  for (const TensorPart& part : tensors) expect_arrived(part);
  EXPECT_EQ(last_->progress().bytes_done, 20 * 299'000U);
  EXPECT_LT(last_->progress().read_bytes, 5 * 300'010U);
}

TEST_F(Pipeline, TellsEachTensorWhenItsContentsAreThere) {
  const std::string path = file("model", 4 * kMiB);
  std::vector<TensorPart> tensors;
  for (std::uint64_t i = 0; i < 64; ++i) tensors.push_back(tensor(i * 60'000, 60'000, static_cast<int>(i % 2)));
  settings_.set("THAW_EMULATOR_BUS_MB_S", "100");  // slower than the disk: all slots are in use
  const auto started = loader().start({path}, tensors);
  ASSERT_TRUE(started.ok());
  std::vector<std::uint32_t> done;
  for (;;) {
    const auto event = (*started)->next(std::nullopt);
    ASSERT_TRUE(event.ok()) << event.error().message;
    if ((*event)->kind == LoadEvent::Kind::end) break;
    done.push_back((*event)->tensor);
    expect_arrived(tensors.at(done.back()));
  }
  std::sort(done.begin(), done.end());
  ASSERT_EQ(done.size(), 64U);
  EXPECT_EQ(std::unique(done.begin(), done.end()), done.end()) << "each once";
  EXPECT_EQ((*started)->progress().tensors_done, 64U);
}

TEST_F(Pipeline, AsksForDestinationsAheadAndWaitsForThem) {
  const std::string path = file("model", 4 * kMiB);
  std::vector<TensorPart> tensors;
  for (std::uint64_t i = 0; i < 16; ++i) {
    tensors.push_back(tensor(i * 250'000, 250'000, i % 2 == 0 ? 0 : kHost));
    tensors.back().destination = 0;
  }
  const auto started = loader().start({path}, tensors, 500'000);
  ASSERT_TRUE(started.ok());
  Load& load = **started;
  std::size_t asked = 0;
  std::size_t done = 0;
  bool ended = false;
  while (!ended) {
    const auto event = load.next(std::nullopt);
    ASSERT_TRUE(event.ok()) << event.error().message;
    TensorPart& part = tensors.at((*event)->tensor);
    switch ((*event)->kind) {
      case LoadEvent::Kind::needs_destination:
        EXPECT_EQ((*event)->tensor, asked) << "in the order of the file";
        ++asked;
        // The window, what the ring holds, and the tensor that is cut by their end.
        EXPECT_LE(asked - done, 500'000U / 250'000 + options_.ring.memory_bytes() / 250'000 + 4);
        part.destination = memory_on(part.device, part.row_bytes);
        ASSERT_TRUE(load.provide((*event)->tensor, part.destination).ok());
        break;
      case LoadEvent::Kind::done:
        expect_arrived(part);
        ++done;
        break;
      case LoadEvent::Kind::end:
        ended = true;
        break;
    }
  }
  EXPECT_EQ(asked, 16U);
  EXPECT_EQ(done, 16U);
  EXPECT_FALSE(load.provide(3, 1).ok()) << "it has one";
  EXPECT_FALSE(load.provide(16, 1).ok());
}

TEST_F(Pipeline, TheRingIsPinnedOnceForAllLoadsAndGivenBackAtTheEnd) {
  const std::string path = file("model", kMiB);
  settings_.set("THAW_EMULATOR_FAIL", "cuMemHostRegister_v2=2@2+");
  for (int device = 0; device < 3; ++device) {
    const TensorPart part = tensor(7, 1'000'000, device);
    ASSERT_EQ(load({path}, {part}), "");
    expect_arrived(part);
  }
  EXPECT_EQ(driver_.counts().pageable_copies, 0U);
  EXPECT_EQ(driver_.counts().streams, 3U) << "one for each device";
  loader_.reset();
  contexts_.clear();
  const ThawEmulatorCounts counts = driver_.counts();
  EXPECT_EQ(counts.pinned_bytes, 0U);
  EXPECT_EQ(counts.streams, 0U);
  EXPECT_EQ(counts.events, 0U);
  EXPECT_EQ(counts.contexts, 0U);
}

TEST_F(Pipeline, LeavesTheCallersContextAlone) {
  const std::string path = file("model", kMiB);
  const TensorPart part = tensor(0, 1000, 1);
  const auto current = [&] {
    CUcontext context = nullptr;
    EXPECT_EQ(driver_.call<cuCtxGetCurrent_t>("cuCtxGetCurrent", &context), kCudaSuccess);
    return context;
  };
  const CUcontext before = current();
  ASSERT_NE(before, nullptr);
  ASSERT_EQ(load({path}, {part}), "");
  loader_.reset();
  EXPECT_EQ(current(), before);
}

TEST_F(Pipeline, OneLoadAtATime) {
  const std::string path = file("model", kMiB);
  TensorPart part = tensor(0, 1000, kHost);
  const std::uint64_t destination = std::exchange(part.destination, 0);
  const auto first = loader().start({path}, {part});
  ASSERT_TRUE(first.ok());
  const auto second = loader().start({path}, {tensor(0, 1000, kHost)});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, base::ErrorKind::conflict);
  ASSERT_TRUE((*first)->provide(0, destination).ok());
  ASSERT_EQ(outcome(**first), "");
  EXPECT_EQ(load({path}, {tensor(0, 1000, kHost)}), "") << "the next may begin as soon as the end is told";
}

TEST_F(Pipeline, NothingToLoadIsLoadedAtOnce) {
  EXPECT_EQ(load({}, {}), "");
  EXPECT_EQ(load({file("model", 100)}, {tensor(0, 0, kHost)}), "");
  EXPECT_EQ(last_->progress().read_bytes, 0U);
}

TEST_F(Pipeline, ReadsByThreadsWhereIoUringIsRefused) {
  options_.make_queue = [](const ReadSlots& slots) -> base::Result<std::unique_ptr<ReadQueue>> {
    return make_thread_queue(slots);
  };
  const std::string path = file("model", 2 * kMiB);
  const TensorPart part = tensor(3, 2 * kMiB - 3, 0);
  ASSERT_EQ(load({path}, {part}), "");
  expect_arrived(part);
}

TEST_F(Pipeline, OptionsOutOfRangeAreRefused) {
  for (const ReadSettings& ring :
       {ReadSettings{4095, 8}, ReadSettings{4096, 1}, ReadSettings{128ULL << 20, 8}, ReadSettings{4096, 1000}}) {
    options_.ring = ring;
    EXPECT_FALSE(Loader::open(options_).ok());
  }
}

}  // namespace
}  // namespace thaw::node::pipeline::test
