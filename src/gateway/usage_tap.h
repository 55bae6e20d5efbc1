#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace thaw::gateway {

struct TokenCounts {
  std::uint32_t prompt = 0, completion = 0;
};

/// Reads the engine's own token counts out of an answer that passes by: OpenAI's or Anthropic's "usage" object, else llama.cpp's "timings". The needle cannot stand
/// inside a JSON string, where its quotes would be escaped. Holds nothing between events, except an event that came in pieces (bounded).
class UsageTap {
 public:
  /// Content of an event stream, in the order it comes.
  void stream(std::string_view content);
  /// A whole JSON answer.
  void document(std::string_view json) { look(json); }
  [[nodiscard]] TokenCounts counts() const { return counts_; }

 private:
  static constexpr std::size_t kMaxPending = 64 * 1024;
  void look(std::string_view text);
  void look_at_usage(std::string_view usage);

  TokenCounts counts_;
  std::string pending_;
};

}  // namespace thaw::gateway
