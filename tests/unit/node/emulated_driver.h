#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "emulator/control.h"
#include "node/device/cuda_abi.h"
#include "node/device/shared_library.h"
#include "node/sandbox/fd.h"

/// The emulated driver (tests/emulator) for tests: the real one is never touched.
namespace thaw::node::test {

/// Settings of the emulator (tests/emulator/settings.h), taken back at the end.
class EmulatorSettings {
 public:
  EmulatorSettings() = default;
  ~EmulatorSettings() {
    for (const std::string& name : names_)
      ::unsetenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): tests run one by one
  }
  EmulatorSettings(const EmulatorSettings&) = delete;
  EmulatorSettings& operator=(const EmulatorSettings&) = delete;

  void set(const std::string& name, const std::string& value) {
    ::setenv(name.c_str(), value.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    names_.push_back(name);
  }

 private:
  std::vector<std::string> names_;
};

inline std::string emulated_library(const std::string& name) {
  return std::string(THAW_BINARY_DIR) + "/emulator/" + name;
}

/// Calls into the emulated driver: `driver.call<cuInit_t>("cuInit", 0U)` is the driver's code.
class EmulatedDriver {
 public:
  EmulatedDriver() : library_(SharedLibrary::open(emulated_library("libcuda.so.1")).value()) {}

  template <typename Function, typename... Args>
  auto call(const char* name, Args... args) const {
    return library_.find<Function>(name).value()(args...);
  }
  [[nodiscard]] ThawEmulatorCounts counts() const {
    ThawEmulatorCounts counts{};
    call<thawEmulatorCounts_t>("thawEmulatorCounts", &counts);
    return counts;
  }
  void reset() const { call<thawEmulatorReset_t>("thawEmulatorReset"); }

  /// A device's primary context, current in this thread for as long as the object lives.
  class Context {
   public:
    Context(const EmulatedDriver& driver, cuda_abi::CUdevice device) : driver_(driver), device_(device) {
      EXPECT_EQ(driver_.call<cuda_abi::cuDevicePrimaryCtxRetain_t>("cuDevicePrimaryCtxRetain", &context_, device_),
                cuda_abi::kCudaSuccess);
      EXPECT_EQ(driver_.call<cuda_abi::cuCtxSetCurrent_t>("cuCtxSetCurrent", context_), cuda_abi::kCudaSuccess);
    }
    ~Context() {
      driver_.call<cuda_abi::cuDevicePrimaryCtxRelease_v2_t>("cuDevicePrimaryCtxRelease_v2", device_);
      driver_.call<cuda_abi::cuCtxSetCurrent_t>("cuCtxSetCurrent", cuda_abi::CUcontext{});
    }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    [[nodiscard]] cuda_abi::CUcontext get() const { return context_; }

   private:
    const EmulatedDriver& driver_;
    cuda_abi::CUdevice device_;
    cuda_abi::CUcontext context_ = nullptr;
  };

 private:
  SharedLibrary library_;
};

/// A process of its own that computes on the emulated devices (tests/emulator/gpu_process.cpp), in the environment of
/// the moment.
class GpuProcess {
 public:
  /// `mib`: of each device's memory.
  explicit GpuProcess(unsigned mib) {
    std::array<int, 2> to{};
    std::array<int, 2> from{};
    EXPECT_EQ(::pipe2(to.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(from.data(), O_CLOEXEC), 0);
    const std::string program = emulated_library("gpu-process");
    const std::string library = emulated_library("libcuda.so.1");
    const std::string size = std::to_string(mib);
    std::array<char*, 4> argv{const_cast<char*>(program.c_str()), const_cast<char*>(library.c_str()),
                              const_cast<char*>(size.c_str()), nullptr};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, to[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, from[1], STDOUT_FILENO);
    EXPECT_EQ(::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(to[0]);
    ::close(from[1]);
    requests_ = ::fdopen(to[1], "w");
    answers_ = ::fdopen(from[0], "r");
    EXPECT_EQ(answer(), "ready " + std::to_string(pid_));
  }
  ~GpuProcess() {
    end();
    std::fclose(requests_);
    std::fclose(answers_);
  }
  GpuProcess(const GpuProcess&) = delete;
  GpuProcess& operator=(const GpuProcess&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  void ask(const std::string& line) {
    std::fputs((line + "\n").c_str(), requests_);
    std::fflush(requests_);
  }
  /// The next line it says; empty when it has ended.
  std::string answer() {
    std::string line;
    for (int c = std::fgetc(answers_); c != EOF && c != '\n'; c = std::fgetc(answers_)) line += static_cast<char>(c);
    return line;
  }
  std::string answer_to(const std::string& line) {
    ask(line);
    return answer();
  }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
  FILE* requests_ = nullptr;
  FILE* answers_ = nullptr;
};

}  // namespace thaw::node::test
