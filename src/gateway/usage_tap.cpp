#include "gateway/usage_tap.h"

#include <algorithm>
#include <cstring>

namespace thaw::gateway {
namespace {

/// The number behind `"name":`, or `otherwise`.
std::uint32_t number_after(std::string_view text, std::string_view name, std::uint32_t otherwise) {
  const auto found = text.find(name);
  if (found == std::string_view::npos) return otherwise;
  std::size_t at = found + name.size();
  while (at < text.size() && (text[at] == ' ' || text[at] == ':')) ++at;
  if (at == text.size() || text[at] < '0' || text[at] > '9') return otherwise;
  std::uint64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9' && value < UINT32_MAX; ++at)
    value = value * 10 + static_cast<std::uint64_t>(text[at] - '0');
  return value > UINT32_MAX ? UINT32_MAX : static_cast<std::uint32_t>(value);
}

bool contains(std::string_view text, std::string_view needle) {
  return memmem(text.data(), text.size(), needle.data(), needle.size()) != nullptr;
}

}  // namespace

void UsageTap::stream(std::string_view content) {
  if (pending_.empty() && content.ends_with("\n\n")) {
    look(content);
    return;
  }
  // An event in pieces: gathered until it ends. One larger than the bound is no usage event and is let go.
  if (pending_.size() + content.size() > kMaxPending) pending_.clear();
  if (content.size() <= kMaxPending) pending_.append(content);
  if (pending_.ends_with("\n\n")) {
    look(pending_);
    pending_ = {};
  }
}

/// OpenAI's names; those of its newer routes, which Anthropic has, too, but there without what was read from and written to its cache.
void UsageTap::look_at_usage(std::string_view usage) {
  counts_.prompt = number_after(usage, "\"prompt_tokens\"", counts_.prompt);
  counts_.completion = number_after(usage, "\"completion_tokens\"", counts_.completion);
  if (contains(usage, "\"input_tokens\"")) {
    const std::uint64_t prompt = std::uint64_t{number_after(usage, "\"input_tokens\"", 0)} + number_after(usage, "\"cache_read_input_tokens\"", 0) +
                                 number_after(usage, "\"cache_creation_input_tokens\"", 0);
    counts_.prompt = static_cast<std::uint32_t>(std::min<std::uint64_t>(prompt, UINT32_MAX));
  }
  counts_.completion = number_after(usage, "\"output_tokens\"", counts_.completion);
}

void UsageTap::look(std::string_view text) {
  constexpr std::string_view kUsage = "\"usage\":";
  if (contains(text, kUsage)) {
    // Anthropic's streams say what they read in the first event and what they wrote in the last; both may come at once.
    for (std::size_t at = text.find(kUsage); at != std::string_view::npos;) {
      const std::size_t next = text.find(kUsage, at + kUsage.size());
      look_at_usage(text.substr(at, next == std::string_view::npos ? next : next - at));
      at = next;
    }
  } else if (contains(text, "\"timings\":")) {
    const std::string_view timings = text.substr(text.rfind("\"timings\":"));
    const std::uint64_t prompt = std::uint64_t{number_after(timings, "\"prompt_n\"", 0)} + number_after(timings, "\"cache_n\"", 0);
    counts_.prompt = static_cast<std::uint32_t>(std::min<std::uint64_t>(prompt, UINT32_MAX));
    counts_.completion = number_after(timings, "\"predicted_n\"", 0);
  }
}

}  // namespace thaw::gateway
