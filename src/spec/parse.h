#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "spec/model_spec.h"

namespace thaw::spec {

/// Reads a Model in YAML (or JSON, which is YAML) in the shape Kubernetes users know. Unknown keys, wrong types and bad values are refused as
/// "FILE:LINE:COLUMN: spec.scaling.idleTimout: unknown key; did you mean idleTimeout?". Bounded against hostile input: at
/// most 1 MiB of text, 32 levels, 10,000 values, no anchors, aliases or tags at all. Several problems are reported together, one a line (at most 20).
/// `file` names the text in errors. `base_directory`: relative source and engine paths are resolved against it (purely textually).
base::Result<ModelSpec> parse_model(std::string_view text, const std::string& file, const std::string& base_directory);

/// Checks a spec that was not written as YAML (made from flags, or read back from the store). Same rules and wording.
base::Status validate(const ModelSpec& spec);

/// The spec as JSON in the same shape (apiVersion, kind, metadata, spec): stored, shown by `thaw ls --json`. parse_model reads it back
/// unchanged.
std::string to_json(const ModelSpec& spec);

/// The candidate closest to `word` by edit distance (transpositions count one) if it is close enough to be a likely slip; else empty.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace thaw::spec
