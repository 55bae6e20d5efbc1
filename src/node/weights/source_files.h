#pragma once

#include <string>
#include <vector>

namespace thaw::node {

/// The problem: whoever only asks where a model's bytes lie, of a thousand models, must not read a thousand headers for
/// it. The weight files of a ModelSpec's source, told by their names alone: a file; with it the other parts when it is
/// named NAME-00001-of-00003.gguf; all *.safetensors beside an index (*.index.json) or in a directory. Missing files
/// are left out. In the order of their names; at most kMaxSourceFiles. Stateless; any thread; blocking for as long as a
/// directory is read.
std::vector<std::string> source_files(const std::string& source);

constexpr std::size_t kMaxSourceFiles = 1'000;

}  // namespace thaw::node
