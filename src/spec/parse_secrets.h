#pragma once

#include "spec/fields.h"
#include "spec/model_spec.h"

/// The part of a model's spec that names secrets.
namespace thaw::spec {

std::string secrets_shape();  ///< what read_secrets() takes, as JSON Schema
void read_secrets(const Cursor& at, ModelSpec& into);

/// What they forbid elsewhere in the spec. `at`: of "spec".
void check_secrets(const Cursor& at, const ModelSpec& spec);

}  // namespace thaw::spec
