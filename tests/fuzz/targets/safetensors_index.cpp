// The index of a model in several safetensors files: the input is the index, beside two good shards and a link that leads out of the directory.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "fuzz/check.h"
#include "fuzz/memory_file.h"
#include "node/weights/weight_files.h"
#include "unit/node/safetensors_builder.h"

namespace {

namespace fs = std::filesystem;
using thaw::node::testing::SafetensorsBuilder;
using thaw::node::testing::TemporaryDirectory;

class Model {
 public:
  Model() {
    SafetensorsBuilder().tensor("a", 2, 2).tensor("model.layers.1.b", 1, 1).write(directory_ / "1.safetensors");
    SafetensorsBuilder().tensor("c", 4, 4).write(directory_ / "2.safetensors");
    SafetensorsBuilder().tensor("d", 1, 1).write(elsewhere_ / "3.safetensors");
    fs::create_symlink(elsewhere_ / "3.safetensors", directory_ / "3.safetensors");
    real_ = fs::canonical(directory_.path()).string();
  }
  [[nodiscard]] std::string index_path() const { return directory_ / "model.safetensors.index.json"; }
  [[nodiscard]] const std::string& real() const { return real_; }

 private:
  TemporaryDirectory directory_;
  TemporaryDirectory elsewhere_;
  std::string real_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Model model;
  std::ofstream(model.index_path(), std::ios::binary | std::ios::trunc) << thaw::fuzz::text_of(data, size);
  const auto weights = thaw::node::open_weights(model.index_path());
  if (!weights.ok()) return 0;
  for (const auto& file : weights->files) FUZZ_CHECK(fs::path(file.path).parent_path() == model.real());
  std::uint64_t bytes = 0;
  for (const auto& range : weights->ranges()) bytes += range.bytes;
  FUZZ_CHECK(bytes == weights->tensor_bytes());
  return 0;
}
