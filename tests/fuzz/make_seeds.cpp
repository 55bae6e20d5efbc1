// make-seeds DIRECTORY: writes inputs for the targets that read binary formats, one directory each, for the fuzzer to start from.
#include <cstdio>

#include "unit/node/elf_builder.h"
#include "unit/node/safetensors_builder.h"

namespace {

using thaw::node::testing::GgufBuilder;
using thaw::node::testing::llama_model;
using thaw::node::testing::SafetensorsBuilder;
using thaw::node::testing::write_file;

std::string raw(std::uint64_t number) {
  return GgufBuilder::raw(number);
}

void write_gguf(const std::string& directory) {
  write_file(directory + "/model", llama_model().tensor("output.weight", 8, 64).header());
  GgufBuilder two = llama_model(1, 32, 512, 4);
  two.version = 2;
  write_file(directory + "/version-2", two.header());
  GgufBuilder kinds;
  kinds.text("general.architecture", "gemma2").number("general.alignment", 64).number("gemma2.block_count", 3).number("gemma2.embedding_length", 32);
  kinds.number("gemma2.attention.sliding_window", 128).number("gemma2.context_length", 4096);
  for (std::uint32_t type : {0U, 1U, 7U}) kinds.value("a" + std::to_string(type), type, "\1");
  for (std::uint32_t type : {2U, 3U}) kinds.value("b" + std::to_string(type), type, GgufBuilder::raw<std::uint16_t>(2));
  for (std::uint32_t type : {4U, 5U, 6U}) kinds.value("c" + std::to_string(type), type, GgufBuilder::raw<std::uint32_t>(3));
  for (std::uint32_t type : {10U, 11U, 12U}) kinds.value("d" + std::to_string(type), type, raw(4));
  kinds.value("gemma2.attention.head_count_kv", 9,
              GgufBuilder::raw<std::uint32_t>(5) + raw(3) + GgufBuilder::raw<std::uint32_t>(8) + GgufBuilder::raw<std::uint32_t>(4) +
                  GgufBuilder::raw<std::uint32_t>(2));
  kinds.strings("words", {"one", "", "three"}).tensor_raw("q", {64, 2}, 2, 0).tensor_raw("k", {256}, 12, 128);
  write_file(directory + "/kinds", kinds.header());
  write_file(directory + "/split", llama_model().number("split.no", 0).number("split.count", 2).number("split.tensors.count", 1).header());
}

void write_safetensors(const std::string& directory) {
  SafetensorsBuilder builder;
  builder.member("__metadata__", R"({"format":"pt","a\u00e4":"\n"})").tensor("model.embed_tokens.weight", 4, 4).tensor("model.layers.0.mlp", 2, 8);
  builder.tensor_raw("scalar", "F64", "", "64,72").tensor_raw("packed", "F4", "3,2", "72,75").tensor_raw("none", "I8", "0", "75,75");
  write_file(directory + "/kinds", raw(75) + builder.json());
  write_file(directory + "/empty", raw(0) + "{}");
  write_file(directory + "/file", SafetensorsBuilder::with_length("{}"));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make-seeds DIRECTORY\n");
    return 2;
  }
  const std::string directory = argv[1];
  write_gguf(directory + "/gguf");
  write_safetensors(directory + "/safetensors");
  write_file(directory + "/elf_soname/library", thaw::node::testing::shared_library("libcuda.so.1"));
  return 0;
}
