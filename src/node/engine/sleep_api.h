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

/// What this model's engine offers, as thaw starts it. vLLM and SGLang: on a GPU unless standby.mode is never, and wherever spec.args ask for it
/// by name (--enable-sleep-mode, --enable-memory-saver; --no-enable-sleep-mode turns it off). Pure.
SleepApi sleep_api_of(const spec::ModelSpec& model);

}  // namespace thaw::node
