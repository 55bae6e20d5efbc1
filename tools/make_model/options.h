#pragma once

#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "make_model/lora.h"
#include "make_model/model_file.h"

namespace thaw::make_model {

/// What --help prints.
extern const char* const kUsage;

/// Reads the command line without the program's name. Nothing when help was asked for; invalid with the name of the
/// option and the remedy otherwise. Ranges of values are checked by write_model().
base::Result<std::optional<Options>> parse_options(std::span<const char* const> arguments);
/// What follows "lora".
base::Result<LoraOptions> parse_lora_options(std::span<const char* const> arguments);

}  // namespace thaw::make_model
