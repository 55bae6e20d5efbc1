#include "observe/json_log.h"

#include <fmt/chrono.h>
#include <spdlog/details/log_msg.h>

#include <chrono>
#include <iterator>

#include "spec/utf8.h"

namespace thaw::observe {
namespace {

void append_escaped(spdlog::memory_buf_t& out, spdlog::string_view_t text) {
  // Engines' words are logged too, and whoever collects the log reads JSON.
  for (const char c : spec::replace_invalid_utf8({text.data(), text.size()})) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out.push_back(c);
    }
  }
}

class JsonFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const auto level = spdlog::level::to_string_view(message.level);
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(message.time.time_since_epoch()).count();
    fmt::format_to(std::back_inserter(out), R"({{"time":"{:%Y-%m-%dT%H:%M:%S}.{:03}Z","level":"{}","message":")",
                   fmt::gmtime(static_cast<std::time_t>(ms / 1000)), ms % 1000, fmt::string_view(level.data(), level.size()));
    append_escaped(out, message.payload);
    fmt::format_to(std::back_inserter(out), "\"}}\n");
  }
  [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonFormatter>(); }
};

}  // namespace

std::unique_ptr<spdlog::formatter> make_json_formatter() { return std::make_unique<JsonFormatter>(); }

}  // namespace thaw::observe
