#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/tenancy.h"

/// A deploy of a changed spec makes a revision, and two of them may run side by side. Below the gateway each set of
/// engines is a model of its own, with a name of its own, so that placement, scaling, images and books need to know
/// nothing of revisions (docs/decisions/0040):
///
///     acme~stories      the engines that the first deploy started
///     acme~stories@3    those of revision 3
///
/// Like the tenant's mark the revision's is in no name that a client can send.
namespace thaw::base {

inline constexpr char kRevisionMark =
    '@';  ///< in neither alphabet, and harmless where names go, as the tenants' mark is

/// The name that the engines of a revision run under. Revision 1 has the model's own.
inline ModelName at_revision(const ModelName& model, std::uint32_t revision) {
  if (revision <= 1) return model;
  return ModelName(model.str() + kRevisionMark + std::to_string(revision));
}

/// The model, without the revision.
inline ModelName model_of(const ModelName& runs_as) {
  const auto mark = runs_as.str().find(kRevisionMark);
  return mark == std::string::npos ? runs_as : ModelName(runs_as.str().substr(0, mark));
}

/// What the tenant's own users call it.
inline std::string public_model(const ModelName& runs_as) {
  return public_name(model_of(runs_as));
}

/// The revision that the engines of this name were first started for.
inline std::uint32_t revision_part(std::string_view runs_as) {
  const auto mark = runs_as.find(kRevisionMark);
  std::uint32_t revision = 1;
  if (mark != std::string_view::npos)
    std::from_chars(runs_as.data() + mark + 1, runs_as.data() + runs_as.size(), revision);
  return revision;
}

}  // namespace thaw::base
