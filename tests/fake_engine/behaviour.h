#pragma once

#include <cstdint>
#include <string_view>

#include "options.h"

namespace thaw::fake_engine {

/// What happens to one request.
struct Behaviour {
  enum class Trouble { none, crash, hang, cut, exit };
  enum class When { start, middle };  ///< before any byte, or after half of the tokens
  enum class Framing { sized, chunked, until_close };

  std::int64_t tokens = 8;
  std::int64_t delay_ms = 0;   ///< before each token
  std::int64_t first_ms = 0;   ///< before the first byte
  int status = 0;              ///< not 0: an error of this status
  Framing error_framing = Framing::sized;
  bool long_error = false;     ///< of a megabyte
  Trouble trouble = Trouble::none;
  When when = When::start;
};

/// From the command line, overridden by directives in the prompt: "fake:tokens=5,delay_ms=20,crash" anywhere in the request's text. Directives:
/// tokens=N first_ms=N delay_ms=N status=N, and one of crash, hang, cut, exit, crash_mid, hang_mid, cut_mid, exit_mid. Of an error: chunked or
/// until_close, and long.
Behaviour behaviour_of(const Options& options, std::string_view body);

}  // namespace thaw::fake_engine
