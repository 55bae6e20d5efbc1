#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http.h"
#include "options.h"
#include "sleep.h"

namespace thaw::fake_engine {

/// Adapters, as vLLM (--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True) and SGLang (--enable-lora) are told of
/// them:
///
///     vLLM     POST /v1/load_lora_adapter, /v1/unload_lora_adapter   {"lora_name", "lora_path"}; a request names one
///     by "model" SGLang   POST /load_lora_adapter, /unload_lora_adapter         the same; a request names one by
///     "lora_path"
///
/// An adapter's directory must hold adapter_config.json. A file "trouble" in it says what goes wrong with it: "error"
/// (400), "hang", "crash", or a number of milliseconds that it takes. One that is there already is refused with 400, as
/// vLLM does it.
class Adapters {
 public:
  explicit Adapters(const Options& options) : options_(options) {}

  /// The answer to a request that is about adapters; nothing for others.
  std::optional<Sleeper::Reply> handle(const Request& request);
  [[nodiscard]] bool has(std::string_view name) const;
  [[nodiscard]] std::uint64_t loads() const { return loads_; }  ///< that were asked for
  [[nodiscard]] std::uint64_t unloads() const { return unloads_; }
  [[nodiscard]] std::string names() const;  ///< "a,b"

 private:
  Sleeper::Reply load(const Request& request);
  Sleeper::Reply unload(const Request& request);

  const Options& options_;
  std::vector<std::string> names_;
  std::uint64_t loads_ = 0, unloads_ = 0;
};

}  // namespace thaw::fake_engine
