#pragma once

#include <string>

/// What a specification may hold as JSON Schema (draft 2020-12), made from the same tables that read it: for editors,
/// which then complete and underline YAML as well. What needs more than one key to judge (minReplicas above
/// maxReplicas) is not in it; `thaw deploy` finds that.
namespace thaw::spec {

std::string model_schema();   ///< kind: Model, as for `thaw deploy -f`
std::string server_schema();  ///< kind: Server, as for `thaw serve --config`

}  // namespace thaw::spec
