#include "sleep.h"

#include <charconv>
#include <cstdlib>

#include "answers.h"

namespace thaw::fake_engine {
namespace {

constexpr std::string_view kNone = "null";  // what vLLM and SGLang answer with

bool starts(std::string_view text, std::string_view with) {
  return text.substr(0, with.size()) == with;
}

}  // namespace

Sleeper::Sleeper(const Options& options) : options_(options) {
  hold();
  if (!options_.sleep_trouble.empty()) (void)set_trouble(options_.sleep_trouble);
}

void Sleeper::hold() {
  held_ = std::vector<char>(static_cast<std::size_t>(options_.alloc_mib) << 20, 'x');
}

/// Given back to the kernel at once: blocks of this size are mappings of their own.
void Sleeper::release() {
  std::vector<char>().swap(held_);
}

std::optional<Sleeper::Reply> Sleeper::handle(const Request& request) {
  if (request.target == "/fake/sleep-trouble" && request.method == "POST") return set_trouble(request.body);
  if (request.method == "GET" && request.target == "/health_generate") return Reply{asleep_ ? 503 : 200, {}};
  if (options_.sleep_kind == "vllm") return vllm(request);
  if (options_.sleep_kind == "sglang") return sglang(request);
  return std::nullopt;
}

std::optional<Sleeper::Reply> Sleeper::vllm(const Request& request) {
  if (request.method == "GET" && request.target == "/is_sleeping")
    return Reply{200, std::string(R"({"is_sleeping":)") + (asleep_ ? "true}" : "false}")};
  if (request.method != "POST") return std::nullopt;
  if (request.target == "/sleep") return sleep(request.query == "level=2");
  // Waking the weights alone leaves the engine asleep.
  if (request.target == "/wake_up" && request.query == "tags=weights") {
    if (wake_trouble_ == Trouble::none && !crash_on_wake_) hold();
    return Reply{200, std::string(kNone), delay_ms_};
  }
  if (request.target == "/wake_up") return wake();
  if (request.target == "/collective_rpc" && request.body.find("reload_weights") != std::string_view::npos) {
    lost_weights_ = false;
    ++counts_.reloads;
    return Reply{200, R"({"results":[null]})", delay_ms_};
  }
  return std::nullopt;
}

std::optional<Sleeper::Reply> Sleeper::sglang(const Request& request) {
  if (request.method != "POST") return std::nullopt;
  if (request.target == "/release_memory_occupation") return sleep(false);
  if (request.target == "/resume_memory_occupation") return wake();
  return std::nullopt;
}

Sleeper::Reply Sleeper::sleep(bool drop_weights) {
  if (crash_on_sleep_) std::abort();
  if (sleep_trouble_ == Trouble::error) return {500, error_body(500, "asked to fail"), delay_ms_};
  if (sleep_trouble_ == Trouble::hang) return {200, {}, 0, true};
  if (sleep_trouble_ != Trouble::lie) release();
  asleep_ = true;
  lost_weights_ = drop_weights || options_.forgets_weights;
  ++(drop_weights ? counts_.level2 : counts_.level1);
  return {200, std::string(kNone), delay_ms_};
}

Sleeper::Reply Sleeper::wake() {
  if (crash_on_wake_) std::abort();
  if (wake_trouble_ == Trouble::error) return {500, error_body(500, "asked to fail"), delay_ms_};
  if (wake_trouble_ == Trouble::hang) return {200, {}, 0, true};
  if (wake_trouble_ == Trouble::lie) return {200, std::string(kNone), delay_ms_};
  if (held_.empty()) hold();
  asleep_ = false;
  return {200, std::string(kNone), delay_ms_};
}

Sleeper::Reply Sleeper::set_trouble(std::string_view text) {
  sleep_trouble_ = wake_trouble_ = Trouble::none;
  crash_on_sleep_ = crash_on_wake_ = false;
  delay_ms_ = 0;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    const std::string_view what = item.substr(item.find('=') + 1);
    if (starts(item, "delay_ms=")) {
      std::from_chars(what.data(), what.data() + what.size(), delay_ms_);
      continue;
    }
    Trouble& trouble = starts(item, "sleep=") ? sleep_trouble_ : wake_trouble_;
    bool& crash = starts(item, "sleep=") ? crash_on_sleep_ : crash_on_wake_;
    if (what == "error")
      trouble = Trouble::error;
    else if (what == "hang")
      trouble = Trouble::hang;
    else if (what == "lie")
      trouble = Trouble::lie;
    else if (what == "crash")
      crash = true;
    else
      return {400, error_body(400, "no such trouble")};
  }
  return {200, "{}"};
}

}  // namespace thaw::fake_engine
