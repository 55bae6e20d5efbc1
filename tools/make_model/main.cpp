#include <cstdio>
#include <string_view>

#include <fmt/format.h>

#include "base/units.h"
#include "make_model/model_file.h"
#include "make_model/options.h"

int main(int argc, char** argv) {
  using namespace thaw;
  if (argc > 1 && std::string_view(argv[1]) == "lora") {
    const auto lora = make_model::parse_lora_options(std::span<const char* const>(argv, static_cast<std::size_t>(argc)).subspan(2));
    const auto bytes = lora.ok() ? make_model::write_lora(*lora) : lora.error();
    if (!bytes.ok()) std::fputs(fmt::format("make-model: {}\n", bytes.error().message).c_str(), stderr);
    else std::fputs(fmt::format("{}: {}, an adapter of rank {}\n", lora->out.string(), base::format_bytes(*bytes), lora->rank).c_str(), stdout);
    return bytes.ok() ? 0 : 1;
  }
  const auto options =
      make_model::parse_options(std::span<const char* const>(argv, static_cast<std::size_t>(argc)).subspan(1));
  if (!options.ok()) {
    std::fputs(fmt::format("make-model: {}\n", options.error().message).c_str(), stderr);
    return 2;
  }
  if (!options.value().has_value()) {
    std::fputs(make_model::kUsage, stdout);
    return 0;
  }
  const make_model::Options& wanted = *options.value();
  const auto made = make_model::write_model(wanted);
  if (!made.ok()) {
    std::fputs(fmt::format("make-model: {}\n", made.error().message).c_str(), stderr);
    return 1;
  }
  const make_model::Shape& shape = made->shape;
  std::fputs(
      fmt::format("{}: {}, {:.1f} million weights ({} layers, width {}, feed-forward {}, {} heads)\n",
                  wanted.out.string(), base::format_bytes(made->file_bytes), static_cast<double>(made->weights) / 1e6,
                  shape.layers, shape.embedding, shape.feed_forward, shape.heads)
          .c_str(),
      stdout);
  return 0;
}
