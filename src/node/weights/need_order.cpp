#include "node/weights/need_order.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "node/weights/gguf.h"

namespace thaw::node {
namespace {

constexpr std::uint32_t kFirst = 0;
constexpr std::uint32_t kLast = UINT32_MAX;

}  // namespace

std::uint32_t turn_of_tensor(const std::string& name) {
  constexpr std::string_view kLayer = "blk.";
  if (name.starts_with("output")) return kLast;
  if (!name.starts_with(kLayer)) return kFirst;
  std::uint32_t layer = 0;
  const auto [end, error] = std::from_chars(name.data() + kLayer.size(), name.data() + name.size(), layer);
  return error == std::errc() && layer < kLast - 1 ? layer + 1 : kFirst;
}

NeedOrder::NeedOrder(const std::vector<std::string>& files) {
  std::uint32_t latest = kFirst;
  for (const std::string& file : files) {
    const auto header = read_gguf_header(file);
    if (!header.ok()) {
      files_.clear();
      differs_ = false;
      return;
    }
    std::vector<Span>& spans = files_.emplace_back();
    for (const GgufTensor& tensor : header->tensors) {
      spans.push_back({tensor.offset, tensor.offset + tensor.bytes, turn_of_tensor(tensor.name)});
      differs_ = differs_ || spans.back().turn < latest;
      latest = std::max(latest, spans.back().turn);
    }
  }
}

std::uint32_t NeedOrder::turn(std::size_t file, std::uint64_t offset, std::uint64_t bytes) const {
  if (file >= files_.size()) return kFirst;
  const std::vector<Span>& spans = files_[file];
  auto span = std::upper_bound(spans.begin(), spans.end(), offset, [](std::uint64_t at, const Span& other) { return at < other.end; });
  std::uint32_t earliest = kLast;
  bool any = false;
  for (; span != spans.end() && span->begin < offset + bytes; ++span) {
    earliest = std::min(earliest, span->turn);
    any = true;
  }
  return any ? earliest : kFirst;
}

}  // namespace thaw::node
