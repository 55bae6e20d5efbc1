#pragma once

#include "spec/fields.h"
#include "spec/model_spec.h"

/// The parts of a model's spec that change requests on their way to it: other names, and parameters.
namespace thaw::spec {

std::string parameters_shape();  ///< what read_parameters() takes, as JSON Schema
void read_parameters(const Cursor& at, ModelSpec& into);

/// Whether text is a name as a model's own: 1 to 63 of a-z, 0-9, ".", "_" and "-", a letter or digit first and last.
bool is_model_name(std::string_view text);
std::string aliases_shape();
void read_aliases(const Cursor& at, ModelSpec& into);
void check_aliases(const Cursor& at, const ModelSpec& spec);  ///< `at`: of "spec"

}  // namespace thaw::spec
