#pragma once

#include <spdlog/formatter.h>

#include <memory>

namespace thaw::observe {

/// One JSON object a line: {"time":"2026-11-24T02:00:00.000Z","level":"info","message":"…"}.
std::unique_ptr<spdlog::formatter> make_json_formatter();

}  // namespace thaw::observe
