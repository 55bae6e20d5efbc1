#include "node/agent.h"
#include "base/revision.h"

namespace thaw::node {

// A model's name has no slash and is never "." or "..": it is a file name as it is. Its revisions write to one file.
std::string log_path(const std::string& data_dir, const base::ModelName& model) { return data_dir + "/logs/" + base::model_of(model).str() + ".log"; }

}  // namespace thaw::node
