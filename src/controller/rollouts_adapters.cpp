// A base's revisions follow its adapters: these are part of what its engines are started with.
#include <utility>

#include <spdlog/spdlog.h>

#include "base/revision.h"
#include "controller/adapters.h"
#include "controller/rollouts.h"

namespace thaw::controller {

using base::ModelName;

std::shared_ptr<ModelEntry> Rollouts::share_base(const ModelEntry& adapter, std::uint64_t key) const {
  const ModelName base = base_of(adapter.spec);
  const std::string name = base::public_model(adapter.spec.name);
  const auto has = [&](const std::shared_ptr<ModelEntry>& entry) {
    return entry && place_of_adapter(entry->spec, name, adapter.spec.source.path).has_value();
  };
  if (auto entry = share(base, key); has(entry)) return entry;
  // The one that serves was started before the adapter came; or it is the other way round, and the next one is given up.
  const RolloutLine* const line = find(base);
  if (line == nullptr) return nullptr;
  for (const std::uint32_t number : {line->active, line->candidate})
    if (const auto* const revision = line->find(number))
      if (auto entry = in_.controller.share(revision->runs_as.str()); has(entry)) return entry;
  return nullptr;
}

void Rollouts::follow_adapters(const ModelName& base) {
  const RolloutLine* const line = find(base);
  const auto serves = line == nullptr ? nullptr : in_.controller.share(serving(base).str());
  if (!serves || serves->spec.is_adapter()) return;
  const ModelEntry& newest = line->candidate != 0 && line->coming ? *line->coming : *serves;
  std::vector<spec::Adapter> wanted = adapters_of(in_.controller, base);
  if (same_adapters(newest.spec.adapters, wanted)) return;
  ModelEntry entry = newest;
  entry.spec.name = base;
  entry.alias_names.clear();
  entry.updated_unix_ms = net::unix_ms();
  std::vector<wire::FileStamp> files;
  for (const KnownFile& file : in_.model_files.files(serving(base))) files.push_back(stamp_of(file.deployed));
  const std::uint32_t percent = line->candidate != 0 ? line->percent : 100;
  Plan next = plan(std::move(entry), std::move(files), {.percent = std::max(percent, 1U)});
  spdlog::info("{}: revision {} has {} adapters", base.str(), next.number, next.entry.spec.adapters.size());
  store(next.change);
  carry_out(std::move(next));
}

}  // namespace thaw::controller
