/// A stand-in for llama.cpp's llama-server, vLLM and SGLang: speaks as much of their interfaces as Thaw uses, says foretellable things, and misbehaves on request
/// (options.h, behaviour.h). Fast enough to be the upstream of the relay's benchmark.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>
#include <unistd.h>

#include "options.h"
#include "server.h"

namespace thaw::fake_engine {
namespace {

/// Counts a start in the state file; true when it is one of those that fail.
bool is_failing_start(const Options& options) {
  if (options.fail_first_starts == 0) return false;
  std::int64_t starts = 0;
  std::ifstream(options.state_path) >> starts;
  std::ofstream(options.state_path) << ++starts;
  return starts <= options.fail_first_starts;
}

bool model_is_readable(const Options& options) {
  if (options.model_path.empty() || ::access(options.model_path.c_str(), R_OK) == 0) return true;
  std::fprintf(stderr, "fake-engine: cannot read model %s\n", options.model_path.c_str());
  return false;
}

/// Stands for compiling: what was left is used, and something is added that will be loaded as code.
void use_cache(Options& options) {
  const char* directory = std::getenv("XDG_CACHE_HOME");  // NOLINT(concurrency-mt-unsafe): one thread
  if (options.cache_word.empty() || directory == nullptr) return;
  const std::string path = std::string(directory) + "/words";
  std::string words;
  std::ifstream(path) >> words;
  words += (words.empty() ? "" : ",") + options.cache_word;
  std::ofstream(path) << words;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool runs = file >= 0 && ::mmap(nullptr, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) != MAP_FAILED;
  options.cache_words = runs ? words : "noexec";
}

void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

void set_signals(const Options& options) {
  // The first process of a PID namespace gets only the signals it handles.
  struct sigaction action {};
  action.sa_handler = options.ignore_sigterm ? SIG_IGN : +[](int) { ::_exit(0); };
  ::sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = +[](int) { ::_exit(0); };
  ::sigaction(SIGINT, &action, nullptr);
}

int run(Options options) {
  set_signals(options);
  raise_file_limit();
  std::fprintf(stderr, "fake-engine: starting, model %s\n", options.alias.c_str());
  if (options.fail_start || is_failing_start(options)) {
    std::fprintf(stderr, "fake-engine: asked to fail\n");
    return 1;
  }
  if (!model_is_readable(options)) return 1;
  use_cache(options);
  // vLLM listens when it has loaded its model.
  if (options.kind == Kind::vllm && options.hang_start) ::pause();
  if (options.kind == Kind::vllm) std::this_thread::sleep_for(std::chrono::milliseconds(options.start_delay_ms));
  Server server(options);
  if (!server.listen()) return 1;
  std::fprintf(stderr, "fake-engine: listening on %s\n", options.host.c_str());
  server.run();
}

}  // namespace
}  // namespace thaw::fake_engine

int main(int argc, char** argv) { return thaw::fake_engine::run(thaw::fake_engine::parse_options(argc, argv)); }
