#pragma once

#include "spec/model_spec.h"

namespace thaw::node {

/// How an engine can be told over HTTP to give its device memory back and to take it again.
enum class SleepApi {
  none,  ///< it cannot
  vllm,  ///< POST /sleep?level=1|2, POST /wake_up, GET /is_sleeping: vLLM 0.8 and later with --enable-sleep-mode, and
         ///< only with VLLM_SERVER_DEV_MODE=1 in its environment, which opens other calls for developers as well: its
         ///< socket must be reachable for nobody but us
  sglang,  ///< POST /release_memory_occupation, POST /resume_memory_occupation: SGLang with --enable-memory-saver
};

/// What engines of this kind offer, as thaw starts them.
constexpr SleepApi sleep_api_of(spec::EngineKind kind) {
  switch (kind) {
    case spec::EngineKind::llama_cpp:
      return SleepApi::none;  // its own --sleep-idle-seconds unloads the model and loads it anew: no way for us
  }
  return SleepApi::none;
}

}  // namespace thaw::node
