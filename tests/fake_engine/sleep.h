#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http.h"
#include "options.h"

namespace thaw::fake_engine {

/// An engine's own sleep, as vLLM (0.8 and later) or SGLang offer it over HTTP, and the memory that is at stake:
/// --fake-alloc-mib of it stands for what an engine holds on its device.
///
///     vLLM     POST /sleep?level=1|2   POST /wake_up[?tags=weights|kv_cache]   GET /is_sleeping   POST /collective_rpc
///     {"method":"reload_weights"} SGLang   POST /release_memory_occupation   POST /resume_memory_occupation   GET
///     /health_generate
///
/// At level 1 weights would go to host memory and the cache would be dropped; here it is all dropped. After level 2 an
/// engine speaks nonsense until reload_weights. Trouble is set while it runs: POST /fake/sleep-trouble with a body of
/// "sleep=error", "wake=hang" and so on (several by commas):
///
///     sleep=error|hang|crash|lie     lie: answers that it sleeps, and keeps its memory
///     wake=error|hang|crash|lie      lie: answers that it wakes, and sleeps on
///     delay_ms=N                     before each of these answers
class Sleeper {
 public:
  struct Reply {
    int status = 200;
    std::string body;
    std::int64_t delay_ms = 0;
    bool hang = false;
  };

  explicit Sleeper(const Options& options);

  /// The answer to a request that is the sleep's own; nothing for others.
  std::optional<Reply> handle(const Request& request);
  /// Nothing else is answered meanwhile.
  [[nodiscard]] bool asleep() const { return asleep_; }
  /// Its weights are not what they were.
  [[nodiscard]] bool lost_weights() const { return lost_weights_; }
  /// How often it went to sleep with its weights in host memory, without them, and read them anew.
  struct Counts {
    std::uint64_t level1 = 0;
    std::uint64_t level2 = 0;
    std::uint64_t reloads = 0;
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  enum class Trouble { none, error, hang, lie };

  std::optional<Reply> vllm(const Request& request);
  std::optional<Reply> sglang(const Request& request);
  Reply sleep(bool drop_weights);
  Reply wake();
  Reply set_trouble(std::string_view text);
  void hold();
  void release();

  const Options& options_;
  std::vector<char> held_;
  bool asleep_ = false;
  bool lost_weights_ = false;
  Trouble sleep_trouble_ = Trouble::none;
  Trouble wake_trouble_ = Trouble::none;
  bool crash_on_sleep_ = false;
  bool crash_on_wake_ = false;
  std::int64_t delay_ms_ = 0;
  Counts counts_;
};

}  // namespace thaw::fake_engine
