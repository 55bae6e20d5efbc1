#include "controller/model_events.h"

#include <algorithm>
#include <utility>

namespace thaw::controller {

namespace {

/// Not inside a UTF-8 character.
void cut(std::string& text, std::size_t most) {
  if (text.size() <= most) return;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0U) == 0x80U) --most;
  text.resize(most);
  text += "...";
}

}  // namespace

const char* to_string(ModelEvent::Kind kind) {
  using Kind = ModelEvent::Kind;
  switch (kind) {
    case Kind::deployed: return "deployed";
    case Kind::starting: return "starting";
    case Kind::restoring: return "restoring";
    case Kind::waking: return "waking";
    case Kind::ready: return "ready";
    case Kind::freezing: return "freezing";
    case Kind::standby: return "standby";
    case Kind::freeze_failed: return "freeze_failed";
    case Kind::stopping: return "stopping";
    case Kind::failed: return "failed";
    case Kind::gone: return "gone";
    case Kind::imaging: return "imaging";
    case Kind::image_made: return "image_made";
    case Kind::image_failed: return "image_failed";
    case Kind::takeover: return "takeover";
    case Kind::took_over: return "took_over";
    case Kind::takeover_failed: return "takeover_failed";
    case Kind::given_up: return "given_up";
    case Kind::split: return "split";
    case Kind::drained: return "drained";
    case Kind::loaded: return "loaded";
    case Kind::load_failed: return "load_failed";
  }
  return "unknown";
}

void ModelEvents::note(const base::ModelName& model, ModelEvent event) {
  event.seq = ++last_;
  cut(event.reason, kMaxReasonBytes);
  std::vector<ModelEvent>& kept = by_model_[model];
  if (kept.size() == kKept) kept.erase(kept.begin());
  kept.push_back(std::move(event));
}

std::vector<ModelEvent> ModelEvents::since(const base::ModelName& model, std::uint64_t after) const {
  const auto found = by_model_.find(model);
  if (found == by_model_.end()) return {};
  const std::vector<ModelEvent>& kept = found->second;
  const auto first = std::partition_point(kept.begin(), kept.end(), [&](const ModelEvent& e) { return e.seq <= after; });
  return {first, kept.end()};
}

}  // namespace thaw::controller
