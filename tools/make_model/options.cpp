#include "make_model/options.h"

#include <charconv>
#include <string_view>
#include <type_traits>

#include "base/units.h"

namespace thaw::make_model {
namespace {

using base::Error;
using base::ErrorKind;

template <typename Number>
base::Status parse_number(const std::string& option, std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && !text.empty()) return {};
  const char* const what = std::is_floating_point_v<Number> ? "number" : "whole number";
  return Error{ErrorKind::invalid, option + " wants a " + what + ", not '" + std::string(text) + "'"};
}

base::Status apply(const std::string& option, const std::string& value, Options& options) {
  if (option == "--size") {
    auto bytes = base::parse_bytes(value);
    if (!bytes.ok()) return bytes.error().within(option);
    options.size_bytes = *bytes;
  } else if (option == "--type") {
    if (value != "f16" && value != "q4_0")
      return Error{ErrorKind::invalid, "--type wants f16 or q4_0, not '" + value + "'"};
    options.type = value == "f16" ? WeightType::f16 : WeightType::q4_0;
  } else if (option == "--out") {
    options.out = value;
  } else if (option == "--context") {
    return parse_number(option, value, options.context);
  } else if (option == "--seed") {
    return parse_number(option, value, options.seed);
  } else if (option == "--name") {
    options.name = value;
  } else {
    return Error{ErrorKind::invalid, "unknown option '" + option + "'; see make-model --help"};
  }
  return {};
}

}  // namespace

const char* const kUsage =
    R"(usage: make-model --size SIZE --type f16|q4_0 --out FILE [--context N] [--seed N] [--name NAME]

Writes a GGUF file of the llama architecture with random weights, which llama.cpp loads and
serves like any other: it answers in words that mean nothing, until max_tokens or its context ends.

  --size SIZE     of the file: 1MB to 8GiB (within 5% from 8MB on)
  --type TYPE     how weights are stored: f16, or q4_0 (4.5 bits a weight)
  --out FILE      written beside it first, then renamed
  --context N     training context in tokens (default 2048)
  --seed N        other weights of the same shape (default 0); the same seed gives the same file
  --name NAME     the model's name in the file

Example: make-model --size 1GB --type q4_0 --out demo.gguf

usage: make-model lora --layers N --width N --out FILE [--rank N] [--scale X] [--seed N]

Writes an adapter (LoRA) with random weights for a model of the llama architecture.

  --layers N      llama.block_count of the model
  --width N       llama.embedding_length of it
  --rank N        of the adapter (default 4)
  --scale X       how much it adds (default 1: about as much as there is)
  --arch NAME     general.architecture (default llama)
)";

base::Result<LoraOptions> parse_lora_options(std::span<const char* const> arguments) {
  LoraOptions options;
  for (std::size_t i = 0; i < arguments.size(); i += 2) {
    const std::string option = arguments[i];
    if (i + 1 == arguments.size()) return Error{ErrorKind::invalid, option + " wants a value; see make-model --help"};
    const std::string value = arguments[i + 1];
    base::Status read;
    if (option == "--out") options.out = value;
    else if (option == "--layers") read = parse_number(option, value, options.layers);
    else if (option == "--width") read = parse_number(option, value, options.width);
    else if (option == "--rank") read = parse_number(option, value, options.rank);
    else if (option == "--scale") read = parse_number(option, value, options.scale);
    else if (option == "--seed") read = parse_number(option, value, options.seed);
    else if (option == "--arch") options.architecture = value;
    else read = Error{ErrorKind::invalid, "unknown option '" + option + "'; see make-model --help"};
    THAW_RETURN_IF_ERROR(read);
  }
  if (options.out.empty()) return Error{ErrorKind::invalid, "--out is missing; name the file to write"};
  return options;
}

base::Result<std::optional<Options>> parse_options(std::span<const char* const> arguments) {
  Options options;
  bool has_type = false;
  for (std::size_t i = 0; i < arguments.size(); i += 2) {
    const std::string option = arguments[i];
    if (option == "--help" || option == "-h") return std::optional<Options>();
    if (i + 1 == arguments.size()) return Error{ErrorKind::invalid, option + " wants a value; see make-model --help"};
    THAW_RETURN_IF_ERROR(apply(option, arguments[i + 1], options));
    has_type |= option == "--type";
  }
  if (options.size_bytes == 0) return Error{ErrorKind::invalid, "--size is missing; give one, like --size 64MB"};
  if (!has_type) return Error{ErrorKind::invalid, "--type is missing; give f16 or q4_0"};
  if (options.out.empty()) return Error{ErrorKind::invalid, "--out is missing; name the file to write"};
  return std::optional<Options>(std::move(options));
}

}  // namespace thaw::make_model
