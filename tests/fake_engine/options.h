#pragma once

#include <cstdint>
#include <string>

namespace thaw::fake_engine {

/// Whose command line and ways it follows.
enum class Kind {
  llama,   ///< llama-server: --host ADDRESS or PATH.sock, -m FILE, --alias NAME
  vllm,    ///< `serve MODEL --served-model-name NAME --uds PATH`: the socket takes connections once the model is loaded; sleeps with
           ///< --enable-sleep-mode, by calls that are there only with VLLM_SERVER_DEV_MODE=1
  sglang,  ///< `-m sglang.launch_server --model-path MODEL --served-model-name NAME --host ADDRESS --port N`: sleeps with --enable-memory-saver, and
           ///< forgets its weights without --enable-weights-cpu-backup
};

/// How the engine behaves: flags of the engine it stands for as far as they matter, and flags of its own. Everything else on the command line is ignored.
/// As vLLM and SGLang it answers 404 to requests for another model than the one it serves.
///
///     --fake-start-delay-ms N      /health answers 503 for N ms; the socket is there at once
///     --fake-hang-start            /health answers 503 for ever
///     --fake-fail-start            exits with status 1 before it listens
///     --fake-fail-first-starts N   the first N starts do so; they are counted in the file that --fake-state FILE names
///     --fake-first-ms N            before the first byte of each answer
///     --fake-token-delay-ms N      before each token
///     --fake-tokens N              per answer, where the request names fewer or no max_tokens (default 8)
///     --fake-burst N               tokens per write of a stream without delays (default 1, as an engine does it)
///     --fake-error-status N        every answer is an error of this status
///     --fake-crash-on WORD         aborts when a prompt holds WORD, before any byte
///     --fake-hang-mid-answer       a stream falls silent after half of its tokens
///     --fake-cut-mid-answer        a stream's connection is closed after half of its tokens
///     --fake-exit-after-requests N exits with status 1 once N requests were answered
///     --fake-ignore-sigterm        SIGTERM does nothing
///     --fake-alloc-mib N           holds N MiB of touched memory before it is ready
///     --fake-leak-mib N            holds N MiB more for every answer that it begins
///     --fake-poll                  waits with poll(2): gVisor's release of 2022 cannot checkpoint a socket that epoll watches
///     --fake-map-model             maps the model file as llama.cpp does, and reads all of it at the start and for every answer
///     --fake-sleep vllm|sglang     has that engine's calls for sleeping (sleep.h), which give the memory of --fake-alloc-mib back
///     --fake-sleep-trouble WHAT    as POST /fake/sleep-trouble with this body
///     --fake-cache WORD            adds WORD to what an earlier run left in $XDG_CACHE_HOME, and shows it (/fake/stats: cache_words)
///     --fake-health PATH           /health is there by this name only, and the old one says 418
struct Options {
  Kind kind = Kind::llama;
  std::string host = "127.0.0.1";   ///< a path ending in .sock is a Unix socket
  std::uint16_t port = 8080;
  std::string model_path;           ///< must be readable, as for a real engine
  std::string alias = "fake";

  std::int64_t start_delay_ms = 0;
  bool hang_start = false;
  bool fail_start = false;
  std::int64_t fail_first_starts = 0;
  std::string state_path;
  std::int64_t first_ms = 0;
  std::int64_t token_delay_ms = 0;
  std::int64_t tokens = 8;
  std::int64_t burst = 1;
  int error_status = 0;
  std::string crash_on;
  bool hang_mid_answer = false;
  bool cut_mid_answer = false;
  std::int64_t exit_after_requests = 0;
  bool ignore_sigterm = false;
  std::int64_t alloc_mib = 0;
  std::int64_t leak_mib = 0;
  bool map_model = false;
  bool poll = false;
  std::string sleep_kind;           ///< "vllm", "sglang"; empty: none
  std::string sleep_trouble;
  bool forgets_weights = false;     ///< SGLang without a copy in host memory: they are gone after any sleep
  std::string health = "/health";
  bool lora = false;                ///< has calls for adapters (lora.h)
  std::string cache_word;
  std::string cache_words;          ///< all of them, commas between; "noexec" where what lies there cannot be run
};

/// Ends the process with a message when a --fake flag has no proper value.
Options parse_options(int argc, char** argv);

}  // namespace thaw::fake_engine
