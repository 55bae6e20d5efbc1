#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "node/engine/engine.h"
#include "node/engine/llama_args.h"
#include "node/weights/source_files.h"

namespace thaw::node {
namespace {

/// Of "NAME-00001-of-00003.gguf": 3. Everything else is one file: 1.
std::uint64_t parts_in_name(std::string_view path) {
  constexpr std::string_view kFirst = "-00001-of-";
  constexpr std::string_view kEnd = ".gguf";
  constexpr std::size_t kDigits = 5;
  if (path.size() < kFirst.size() + kDigits + kEnd.size() || !path.ends_with(kEnd)) return 1;
  const std::string_view tail = path.substr(path.size() - kFirst.size() - kDigits - kEnd.size());
  const std::string_view digits = tail.substr(kFirst.size(), kDigits);
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  return tail.starts_with(kFirst) && whole && count <= kMaxGgufParts ? std::max<std::uint64_t>(count, 1) : 1;
}

}  // namespace

std::vector<std::string> weight_files(const spec::ModelSpec& model) {
  const std::string& path = model.source.path;
  if (model.engine != spec::EngineKind::llama_cpp) {
    // A directory, or a file of any format; what is not there has nothing to be read ahead.
    std::vector<std::string> found = source_files(path);
    if (!found.empty()) return found;
  }
  const std::uint64_t parts = parts_in_name(path);
  std::vector<std::string> files{path};
  for (std::uint64_t part = 2; part <= parts; ++part)
    files.push_back(path.substr(0, path.size() - std::string_view("00001-of-00001.gguf").size()) + fmt::format("{:05}-of-{:05}.gguf", part, parts));
  if (model.engine == spec::EngineKind::llama_cpp)
    for (std::string& named : named_files(model)) files.push_back(std::move(named));
  if (model.engine == spec::EngineKind::llama_cpp)
    for (const spec::Adapter& adapter : model.adapters) files.push_back(adapter.path);
  return files;
}

}  // namespace thaw::node
