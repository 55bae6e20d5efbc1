#pragma once

#include "spec/fields.h"
#include "spec/model_spec.h"

/// The parts of a model's spec that are about adapters (LoRA).
namespace thaw::spec {

void read_base(const Cursor& at, ModelSpec& into);
std::string base_shape();
void read_adapters(const Cursor& at, ModelSpec& into);
std::string adapters_shape();
/// An adapter has only what it can have. `at`: of "spec".
void check_adapter(const Cursor& at, const ModelSpec& spec);

}  // namespace thaw::spec
