#include "node/engine/sleep_api.h"

#include <algorithm>
#include <string_view>

#include "node/engine/launch_parts.h"

namespace thaw::node {
namespace {

bool on_gpu_to_rest(const spec::ModelSpec& model) {
  return model.resources.device == spec::DeviceKind::cuda && model.standby.mode != spec::Mode::never;
}

}  // namespace

SleepApi sleep_api_of(const spec::ModelSpec& model) {
  switch (model.engine) {
    case spec::EngineKind::vllm: {
      if (gives_flag(model.args, "--no-enable-sleep-mode")) return SleepApi::none;
      return on_gpu_to_rest(model) || gives_flag(model.args, "--enable-sleep-mode") ? SleepApi::vllm : SleepApi::none;
    }
    case spec::EngineKind::sglang:
      return on_gpu_to_rest(model) || gives_flag(model.args, "--enable-memory-saver") ? SleepApi::sglang
                                                                                      : SleepApi::none;
    case spec::EngineKind::llama_cpp:  // its own --sleep-idle-seconds unloads the model and loads it anew: no way for
                                       // us
    case spec::EngineKind::command:    // nobody knows
      return SleepApi::none;
  }
  return SleepApi::none;
}

}  // namespace thaw::node
