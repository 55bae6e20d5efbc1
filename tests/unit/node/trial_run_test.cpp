#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <string>

// libthaw_lazy_map.so preloaded into a program that links libllama (tests/preload): which calls of llama_decode() it answers itself.
namespace thaw::node::test {
namespace {

/// What tests/preload/decode prints of one call.
std::string decode(const std::string& arguments) {
  const std::string directory = THAW_BINARY_DIR;
  const std::string command = "LD_PRELOAD=" + directory + "/libthaw_lazy_map.so " + directory + "/preload/preload-decode " + arguments + " 2>&1";
  std::FILE* const pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return "popen failed";
  std::array<char, 200> line{};
  const std::string out = std::fgets(line.data(), line.size(), pipe) != nullptr ? line.data() : "";
  ::pclose(pipe);
  return out;
}

TEST(TrialRun, OfAModelWithAPlainCacheIsLeftOut) {
  EXPECT_EQ(decode("llama 0 0 none"), "returned 0, decoded 0, saw 0\n");
  EXPECT_EQ(decode("qwen3moe 0 0 none"), "returned 0, decoded 0, saw 0\n");
}

TEST(TrialRun, OfAnyOtherModelIsTheEngines) {
  EXPECT_EQ(decode("mamba 0 0 none"), "returned 7, decoded 1, saw 5242\n");
  EXPECT_EQ(decode("llamas 0 0 none"), "returned 7, decoded 1, saw 6242\n") << "a name is known as a whole";
  EXPECT_EQ(decode("an-architecture-with-a-name-that-is-longer-than-the-room 0 0 none"), "returned 7, decoded 1, saw 56242\n");
}

TEST(TrialRun, EveryOtherBatchReachesTheEngineWhole) {
  EXPECT_EQ(decode("llama 0 0 positions"), "returned 7, decoded 1, saw 5242\n");
  EXPECT_EQ(decode("llama 0 1 none"), "returned 7, decoded 1, saw 5242\n");
  EXPECT_EQ(decode("llama 1 0 none"), "returned 7, decoded 1, saw 5242\n");
}

}  // namespace
}  // namespace thaw::node::test
