// An engine with a long initialisation: stands in an engine's directory in the place of llama-server, computes for a
// while on one core, as an engine does that compiles kernels or captures graphs, and becomes the real one.
//
//   llama-server ARGUMENTS...     this program; $SLOW_INIT_S: seconds of CPU time
//   llama-server.real             beside it

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

namespace {

double cpu_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

/// The result goes into the environment, so that no compiler takes the work away.
std::uint64_t compute(double seconds) {
  constexpr int kBetweenLooks = 10'000'000;
  std::uint64_t state = 88172645463325252ULL;
  while (cpu_seconds() < seconds) {
    for (int i = 0; i < kBetweenLooks; ++i) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
    }
  }
  return state;
}

}  // namespace

int main(int, char** argv) {
  const char* wanted = std::getenv("SLOW_INIT_S");  // NOLINT(concurrency-mt-unsafe): one thread
  const std::uint64_t computed = compute(wanted != nullptr ? std::atof(wanted) : 0);
  ::setenv("SLOW_INIT_RESULT", std::to_string(computed).c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  const std::string real = std::string(argv[0]) + ".real";
  ::execv(real.c_str(), argv);
  std::perror(("cannot run " + real).c_str());
  return 127;
}
