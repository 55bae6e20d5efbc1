#include <atomic>
#include <thread>

#include "node/weights/pipeline/thaw_weights.h"
#include "unit/node/weights_pipeline_harness.h"

namespace thaw::node::pipeline::test {
namespace {

/// Everything that can fail, and that the next load works.
class PipelineFaults : public PipelineTest {
 protected:
  /// That a load of the host, and one of device `device`, works after what happened.
  void expect_works_again(int device = 0) {
    settings_.set("THAW_EMULATOR_FAIL", "");
    driver_.reset();
    const std::string path = file("again", kMiB);
    for (const int where : {kHost, device}) {
      const TensorPart part = tensor(1, 1'000'000, where);
      ASSERT_EQ(load({path}, {part}), "");
      expect_arrived(part);
    }
  }
  std::vector<TensorPart> many(int device) {
    std::vector<TensorPart> tensors;
    for (std::uint64_t i = 0; i < 20; ++i) tensors.push_back(tensor(i * 100'000, 100'000, device));
    return tensors;
  }
};

TEST_F(PipelineFaults, ACopyThatFailsInTheMiddleOfTheLoad) {
  const std::string path = file("model", 2 * kMiB);
  settings_.set("THAW_EMULATOR_FAIL", "copy=700@9");
  const std::string message = load({path}, many(1));
  EXPECT_TRUE(message.starts_with("cuda:1: ") && message.ends_with("failed: an illegal memory access was encountered"))
      << message;
  EXPECT_LT(last_->progress().tensors_done, 20U);
  expect_works_again(1);
}

TEST_F(PipelineFaults, ACopyThatIsRefused) {
  const std::string path = file("model", 2 * kMiB);
  settings_.set("THAW_EMULATOR_FAIL", "cuMemcpyHtoDAsync_v2=999@5");
  EXPECT_EQ(load({path}, many(0)), "cuda:0: cuMemcpyHtoDAsync failed: unknown error");
  expect_works_again();
}

TEST_F(PipelineFaults, ADestinationThatIsNoneOfTheDevice) {
  const std::string path = file("model", kMiB);
  TensorPart part = tensor(0, 100'000, 0);
  part.row_bytes += 1'000;
  EXPECT_EQ(load({path}, {part}), "cuda:0: cuMemcpyHtoDAsync failed: invalid argument");
  expect_works_again();
}

TEST_F(PipelineFaults, ADeviceWithoutMemoryOrThatIsNotThere) {
  const std::string path = file("model", kMiB);
  TensorPart part = tensor(0, 1000, kHost);
  part.device = 9;
  EXPECT_EQ(load({path}, {part}), "cuda:9: cuDeviceGet failed: invalid device ordinal");
  part.device = 2;
  settings_.set("THAW_EMULATOR_FAIL", "cuDevicePrimaryCtxRetain=2");
  EXPECT_EQ(load({path}, {part}), "cuda:2: cuDevicePrimaryCtxRetain failed: out of memory");
  for (const char* function : {"cuStreamCreate=999", "cuEventCreate=999@3"}) {
    driver_.reset();
    settings_.set("THAW_EMULATOR_FAIL", function);
    EXPECT_NE(load({path}, {part}).find("unknown error"), std::string::npos);
  }
  contexts_.clear();
  EXPECT_EQ(driver_.counts().contexts, 0U) << "what was set up half-way is given back";
  EXPECT_EQ(driver_.counts().events, 0U);
  expect_works_again(2);
}

TEST_F(PipelineFaults, ADriverThatIsNotThereOrTooOld) {
  const std::string path = file("model", kMiB);
  TensorPart part = tensor(0, 1000, kHost);
  part.device = 0;
  options_.cuda_library = "/nonexistent/libcuda.so.1";
  EXPECT_NE(load({path}, {part}).find("is NVIDIA's driver installed?"), std::string::npos);
  loader_.reset();
  options_.cuda_library = emulated_library("libcuda.so.1");
  settings_.set("THAW_EMULATOR_FAIL", "cuInit=100");
  EXPECT_EQ(load({path}, {part}), "cuInit failed: no CUDA-capable device is detected");
  expect_works_again();
}

TEST_F(PipelineFaults, MemoryThatCannotBePinnedIsUsedAllTheSame) {
  const std::string path = file("model", kMiB);
  settings_.set("THAW_EMULATOR_FAIL", "cuMemHostRegister_v2=2");
  const TensorPart part = tensor(5, 1'000'000, 0);
  ASSERT_EQ(load({path}, {part}), "");
  expect_arrived(part);
  EXPECT_EQ(last_->progress().pageable_bytes, 1'000'000U);
  EXPECT_GT(driver_.counts().pageable_copies, 0U);
}

TEST_F(PipelineFaults, AFileThatIsTooShortIsSeenBeforeAnythingIsRead) {
  const std::string path = file("model", 1000);
  const TensorPart part = tensor(500, 501, kHost);
  EXPECT_EQ(load({path}, {part}), "tensor 0 of the list: it ends at byte 1001 of " + path +
                                      ", which has 1000: the file is incomplete or damaged; fetch it again");
  EXPECT_NE(load({directory_ / "absent"}, {part}).find("No such file"), std::string::npos);
  EXPECT_NE(load({directory_ / "."}, {part}).find("no regular file"), std::string::npos);
  expect_works_again();
}

TEST_F(PipelineFaults, AFileThatIsCutShortWhileItIsRead) {
  const std::string path = file("model", 2 * kMiB);
  std::atomic<int> completions = 0;
  options_.make_queue = [&](const ReadSlots& slots) -> base::Result<std::unique_ptr<ReadQueue>> {
    return std::unique_ptr<ReadQueue>(std::make_unique<QueueBetween>(make_thread_queue(slots), [&](ReadCompletion&) {
      if (++completions == 10) std::filesystem::resize_file(path, kMiB + 1);
    }));
  };
  const std::string message = load({path}, many(0));
  EXPECT_NE(message.find("cut short"), std::string::npos) << message;
  expect_works_again();
}

TEST_F(PipelineFaults, ADiskThatFails) {
  const std::string path = file("model", 2 * kMiB);
  std::atomic<int> completions = 0;
  options_.make_queue = [&](const ReadSlots& slots) -> base::Result<std::unique_ptr<ReadQueue>> {
    return std::unique_ptr<ReadQueue>(
        std::make_unique<QueueBetween>(make_thread_queue(slots), [&](ReadCompletion& completion) {
          if (++completions == 12) completion.result = -EIO;
        }));
  };
  const std::string message = load({path}, many(0));
  EXPECT_NE(message.find("Input/output error"), std::string::npos) << message;
  EXPECT_NE(message.find(path), std::string::npos) << message;
  expect_works_again();
}

TEST_F(PipelineFaults, CancelledInTheMiddle) {
  const std::string path = file("model", 4 * kMiB);
  settings_.set("THAW_EMULATOR_BUS_MB_S", "20");  // 200 ms
  const std::vector<TensorPart> tensors{tensor(0, 2 * kMiB, 0), tensor(2 * kMiB, 2 * kMiB, 1)};
  const auto started = loader().start({path}, tensors);
  ASSERT_TRUE(started.ok());
  while ((*started)->progress().bytes_done == 0) std::this_thread::yield();
  (*started)->cancel();
  (*started)->wait_ended();
  EXPECT_TRUE((*started)->cancelled());
  EXPECT_FALSE((*started)->next(std::nullopt).ok());
  EXPECT_LT((*started)->progress().bytes_done, 4 * kMiB);
  const std::uint64_t copies = driver_.counts().copies;
  const std::vector<char> before = contents(tensors[0]);
  settings_.set("THAW_EMULATOR_BUS_MB_S", "0");
  expect_works_again();
  EXPECT_EQ(contents(tensors[0]), before) << "nothing arrives after the end";
  EXPECT_GT(copies, 0U);
}

TEST_F(PipelineFaults, CancelledWhileADestinationIsMissing) {
  const std::string path = file("model", 4 * kMiB);
  TensorPart part = tensor(0, 4 * kMiB, kHost);
  part.destination = 0;
  const auto started = loader().start({path}, {part});
  ASSERT_TRUE(started.ok());
  const auto nothing = [&] {
    const auto event = (*started)->next(base::Millis(0));
    return event.ok() && !event->has_value();
  };
  ASSERT_EQ((*(*started)->next(std::nullopt))->kind, LoadEvent::Kind::needs_destination);
  EXPECT_TRUE(nothing());
  std::thread waiting([&] { EXPECT_FALSE((*started)->next(std::nullopt).ok()); });
  (*started)->cancel();
  waiting.join();
  EXPECT_TRUE((*started)->cancelled());
  expect_works_again();
}

TEST_F(PipelineFaults, ALoaderThatGoesCancelsItsLoad) {
  const std::string path = file("model", 4 * kMiB);
  settings_.set("THAW_EMULATOR_BUS_MB_S", "20");
  const auto started = loader().start({path}, {tensor(0, 4 * kMiB, 0)});
  ASSERT_TRUE(started.ok());
  loader_.reset();
  (*started)->wait_ended();
  EXPECT_EQ(driver_.counts().pinned_bytes, 0U);
}

TEST_F(PipelineFaults, TheCInterfaceTellsTheSame) {
  const std::string path = file("model", kMiB);
  const std::string library = emulated_library("libcuda.so.1");
  thaw_weights_options options{};
  options.chunk_bytes = 4097;
  thaw_weights_loader* loader = nullptr;
  EXPECT_EQ(thaw_weights_open(&options, &loader), THAW_WEIGHTS_INVALID);
  EXPECT_NE(std::string(thaw_weights_error()).find("4096"), std::string::npos);
  options.chunk_bytes = 64U << 10;
  options.cuda_library = library.c_str();
  ASSERT_EQ(thaw_weights_open(&options, &loader), THAW_WEIGHTS_OK);

  const char* const files[] = {path.c_str()};
  std::vector<char> host(300'000);
  thaw_weights_tensor tensors[2] = {};
  tensors[0].device = THAW_WEIGHTS_HOST;
  tensors[0].offset = 77;
  tensors[0].row_bytes = host.size();
  tensors[0].rows = 1;
  tensors[0].destination = reinterpret_cast<std::uint64_t>(host.data());
  tensors[1] = tensors[0];
  tensors[1].device = 1;
  tensors[1].destination = 0;
  thaw_weights_load* load = nullptr;
  ASSERT_EQ(thaw_weights_start(loader, files, 1, tensors, 2, nullptr, &load), THAW_WEIGHTS_OK);
  thaw_weights_event event{};
  ASSERT_EQ(thaw_weights_next(load, -1, &event), THAW_WEIGHTS_OK);
  ASSERT_EQ(event.kind, THAW_WEIGHTS_NEEDS_DESTINATION);
  EXPECT_EQ(event.tensor, 1U);
  EXPECT_EQ(thaw_weights_next(load, 0, &event), THAW_WEIGHTS_TIMEOUT);
  TensorPart part;
  part.device = 1;
  part.offset = 77;
  part.row_bytes = host.size();
  part.destination = memory_on(1, host.size());
  ASSERT_EQ(thaw_weights_provide(load, 1, part.destination), THAW_WEIGHTS_OK);
  int done = 0;
  while (thaw_weights_next(load, -1, &event) == THAW_WEIGHTS_OK && event.kind == THAW_WEIGHTS_DONE) ++done;
  EXPECT_EQ(event.kind, THAW_WEIGHTS_END);
  EXPECT_EQ(done, 2);
  expect_arrived(part);
  thaw_weights_progress progress{};
  thaw_weights_get_progress(load, &progress);
  EXPECT_EQ(progress.bytes_done, 600'000U);
  thaw_weights_free(load);

  tensors[1].destination = part.destination;
  settings_.set("THAW_EMULATOR_FAIL", "copy=700");
  ASSERT_EQ(thaw_weights_start(loader, files, 1, tensors, 2, nullptr, &load), THAW_WEIGHTS_OK);
  int status = THAW_WEIGHTS_OK;
  while (status == THAW_WEIGHTS_OK) status = thaw_weights_next(load, -1, &event);
  EXPECT_EQ(status, THAW_WEIGHTS_DEVICE);
  EXPECT_NE(std::string(thaw_weights_load_error(load)).find("cuda:1"), std::string::npos);
  thaw_weights_free(load);
  settings_.set("THAW_EMULATOR_FAIL", "");
  driver_.reset();

  tensors[1].destination = 0;
  ASSERT_EQ(thaw_weights_start(loader, files, 1, tensors, 2, nullptr, &load), THAW_WEIGHTS_OK);
  thaw_weights_cancel(load);
  do status = thaw_weights_next(load, -1, &event);
  while (status == THAW_WEIGHTS_OK);
  EXPECT_EQ(status, THAW_WEIGHTS_CANCELLED);
  thaw_weights_free(load);
  tensors[0].file = 1;
  EXPECT_EQ(thaw_weights_start(loader, files, 1, tensors, 2, nullptr, &load), THAW_WEIGHTS_INVALID);
  EXPECT_EQ(thaw_weights_start(nullptr, files, 1, tensors, 2, nullptr, &load), THAW_WEIGHTS_INVALID);
  thaw_weights_close(loader);
  thaw_weights_close(nullptr);
}

}  // namespace
}  // namespace thaw::node::pipeline::test
