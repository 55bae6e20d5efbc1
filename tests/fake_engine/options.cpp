#include "options.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace thaw::fake_engine {
namespace {

[[noreturn]] void refuse(std::string_view flag) {
  std::fprintf(stderr, "fake-engine: %.*s lacks a proper value\n", static_cast<int>(flag.size()), flag.data());
  std::exit(2);  // NOLINT(concurrency-mt-unsafe): one thread
}

class Reader {
 public:
  Reader(int argc, char** argv) : argc_(argc), argv_(argv) {}

  bool next(std::string_view& flag) {
    if (index_ >= argc_) return false;
    flag = flag_ = argv_[index_++];
    return true;
  }
  std::string text() {
    if (index_ >= argc_) refuse(flag_);
    return argv_[index_++];
  }
  template <typename T>
  T number() {
    const std::string value = text();
    T result{};
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (error != std::errc() || end != value.data() + value.size() || result < T{}) refuse(flag_);
    return result;
  }

 private:
  int argc_;
  char** argv_;
  int index_ = 1;
  std::string_view flag_;
};

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  Reader reader(argc, argv);
  std::string enabled_sleep;
  bool backup = false;
  for (std::string_view flag; reader.next(flag);) {
    if (flag == "--host") options.host = reader.text();
    else if (flag == "--port") options.port = reader.number<std::uint16_t>();
    else if (flag == "serve") {
      options.kind = Kind::vllm;
      options.model_path = reader.text();
    }
    else if (flag == "-m" || flag == "--model") {
      options.model_path = reader.text();
      if (options.model_path == "sglang.launch_server") options.kind = Kind::sglang;
    }
    else if (flag == "--model-path") {
      options.kind = Kind::sglang;
      options.model_path = reader.text();
    }
    else if (flag == "-a" || flag == "--alias" || flag == "--served-model-name") options.alias = reader.text();
    else if (flag == "--uds") options.host = reader.text();
    else if (flag == "--enable-sleep-mode") enabled_sleep = "vllm";
    else if (flag == "--enable-memory-saver") enabled_sleep = "sglang";
    else if (flag == "--enable-weights-cpu-backup") backup = true;
    else if (flag == "--enable-lora") options.lora = true;
    else if (flag == "--fake-start-delay-ms") options.start_delay_ms = reader.number<std::int64_t>();
    else if (flag == "--fake-hang-start") options.hang_start = true;
    else if (flag == "--fake-fail-start") options.fail_start = true;
    else if (flag == "--fake-fail-first-starts") options.fail_first_starts = reader.number<std::int64_t>();
    else if (flag == "--fake-state") options.state_path = reader.text();
    else if (flag == "--fake-first-ms") options.first_ms = reader.number<std::int64_t>();
    else if (flag == "--fake-token-delay-ms") options.token_delay_ms = reader.number<std::int64_t>();
    else if (flag == "--fake-tokens") options.tokens = reader.number<std::int64_t>();
    else if (flag == "--fake-burst") options.burst = reader.number<std::int64_t>();
    else if (flag == "--fake-error-status") options.error_status = reader.number<int>();
    else if (flag == "--fake-crash-on") options.crash_on = reader.text();
    else if (flag == "--fake-hang-mid-answer") options.hang_mid_answer = true;
    else if (flag == "--fake-cut-mid-answer") options.cut_mid_answer = true;
    else if (flag == "--fake-exit-after-requests") options.exit_after_requests = reader.number<std::int64_t>();
    else if (flag == "--fake-ignore-sigterm") options.ignore_sigterm = true;
    else if (flag == "--fake-alloc-mib") options.alloc_mib = reader.number<std::int64_t>();
    else if (flag == "--fake-leak-mib") options.leak_mib = reader.number<std::int64_t>();
    else if (flag == "--fake-map-model") options.map_model = true;
    else if (flag == "--fake-poll") options.poll = true;
    else if (flag == "--fake-sleep") {
      options.sleep_kind = reader.text();
      if (options.sleep_kind != "vllm" && options.sleep_kind != "sglang") refuse(flag);
    }
    else if (flag == "--fake-sleep-trouble") options.sleep_trouble = reader.text();
    else if (flag == "--fake-cache") options.cache_word = reader.text();
    else if (flag == "--fake-health") options.health = reader.text();
    else if (flag.substr(0, 7) == "--fake-") refuse(flag);
  }
  const char* dev_mode = std::getenv("VLLM_SERVER_DEV_MODE");  // NOLINT(concurrency-mt-unsafe): one thread
  const bool has_calls = enabled_sleep == "sglang" || (dev_mode != nullptr && std::string_view(dev_mode) == "1");
  if (options.sleep_kind.empty() && has_calls) options.sleep_kind = enabled_sleep;
  const char* lora_updating = std::getenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING");  // NOLINT(concurrency-mt-unsafe): one thread
  if (options.kind == Kind::vllm && (lora_updating == nullptr || std::string_view(lora_updating) != "True")) options.lora = false;
  options.forgets_weights = enabled_sleep == "sglang" && !backup;
  return options;
}

}  // namespace thaw::fake_engine
