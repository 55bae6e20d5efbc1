#pragma once

#include <string>
#include <vector>

#include "controller/controller.h"

/// Models that are adapters (LoRA) of others: who belongs to whom, by the controller's books. Loop thread.
namespace thaw::controller {

/// The model whose adapter it is, with the tenant.
base::ModelName base_of(const spec::ModelSpec& adapter);
/// What replicas of `base` (without a revision) are to be started with, in the order of their names.
std::vector<spec::Adapter> adapters_of(const Controller& controller, const base::ModelName& base);
/// Makes them the entry's, whose memory follows where it is an estimate.
void take_adapters(ModelEntry& entry, std::vector<spec::Adapter> adapters);
/// "a, b": of `base`, as their users know them; empty: it has none.
std::string names_of_adapters(const Controller& controller, const base::ModelName& base);

}  // namespace thaw::controller
