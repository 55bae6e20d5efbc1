#include "node/pull/hub.h"

#include <gtest/gtest.h>

namespace thaw::node::pull {
namespace {

HubListing listing(const std::vector<std::string>& paths) {
  HubListing all{"abc", {}};
  for (const std::string& path : paths) all.files.push_back({path, 1, "", ""});
  return all;
}

/// The chosen files, then what the engine is given; or the error.
std::string select(const HubListing& from, const char* ref, bool directory = false) {
  const auto selection = select_files(from, *spec::parse_hub_ref(ref), directory);
  if (!selection.ok()) return std::string(to_string(selection.error().kind)) + ": " + selection.error().message;
  std::string text;
  for (const HubFile& file : selection->files) text += file.path + " ";
  return text + "-> " + selection->main;
}

TEST(HubListing, IsReadWithDigests) {
  const std::string sha256(64, 'c');
  const std::string blob(40, 'b');
  const auto read =
      parse_listing(R"({"sha":"0123ab","private":false,"siblings":[{"rfilename":"a/m.gguf","size":7,"blobId":"x","lfs":{"sha256":")" + sha256 +
                    R"(","size":7,"pointerSize":1}},{"rfilename":"config.json","size":3,"blobId":")" + blob + R"("},{"rfilename":"README.md"}]})");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->commit, "0123ab");
  ASSERT_EQ(read->files.size(), 3U);
  EXPECT_EQ(read->files[0].sha256, sha256);
  EXPECT_EQ(read->files[0].bytes, 7U);
  EXPECT_EQ(read->files[0].git_blob, "");
  EXPECT_EQ(read->files[1].git_blob, blob);
  EXPECT_EQ(read->files[2].bytes, 0U);
}

TEST(HubListing, RefusesWhatIsNoneOrLeadsOutside) {
  for (const char* text : {"", "<html>", "[]", "{}", R"({"sha":"a"})", R"({"sha":"a/b","siblings":[]})", R"({"sha":"a","siblings":[1]})",
                           R"({"sha":"a","siblings":[{"rfilename":""}]})", R"({"sha":"a","siblings":[{"rfilename":"../x"}]})",
                           R"({"sha":"a","siblings":[{"rfilename":"/x"}]})", R"({"sha":"a","siblings":[{"rfilename":"a//x"}]})",
                           R"({"sha":"a","siblings":[{"rfilename":"a\nb"}]})", R"({"sha":"a","siblings":[{"rfilename":"m","lfs":{"sha256":"zz"}}]})"})
    EXPECT_FALSE(parse_listing(text).ok()) << text;
}

TEST(HubPaths, AreEncoded) {
  EXPECT_EQ(listing_path(*spec::parse_hub_ref("o/r@refs/pr/1")), "/api/models/o/r/revision/refs%2Fpr%2F1?blobs=true");
  EXPECT_EQ(file_path("o/r", "abc", "d/a b.gguf"), "/o/r/resolve/abc/d/a%20b.gguf");
}

TEST(HubSelection, FindsTheQuantisation) {
  const HubListing many =
      listing({"M-IQ4_0.gguf", "M-Q4_0.gguf", "M-Q4_K_M.gguf", "M-Q4_K_S.gguf", "M-UD-Q4_K_XL.gguf", "mmproj-M-Q8_0.gguf", "README.md"});
  EXPECT_EQ(select(many, "o/r"), "M-Q4_K_M.gguf -> M-Q4_K_M.gguf");
  EXPECT_EQ(select(many, "o/r:q4_0"), "M-Q4_0.gguf -> M-Q4_0.gguf") << "a word, not a piece of IQ4_0";
  EXPECT_EQ(select(many, "o/r:UD-Q4_K_XL"), "M-UD-Q4_K_XL.gguf -> M-UD-Q4_K_XL.gguf");
  EXPECT_EQ(select(many, "o/r:Q8_0"),
            "not_found: o/r has no GGUF file of Q8_0; it has M-IQ4_0.gguf, M-Q4_0.gguf, M-Q4_K_M.gguf, M-Q4_K_S.gguf, M-UD-Q4_K_XL.gguf");
  EXPECT_EQ(select(many, "o/r:Q4_K"),
            "not_found: o/r has no GGUF file of Q4_K; it has M-IQ4_0.gguf, M-Q4_0.gguf, M-Q4_K_M.gguf, M-Q4_K_S.gguf, M-UD-Q4_K_XL.gguf");
  EXPECT_EQ(select(listing({"only.gguf", "a.txt"}), "o/r"), "only.gguf -> only.gguf");
  EXPECT_EQ(select(listing({"a-Q5_0.gguf", "b-Q6_K.gguf"}), "o/r"),
            "invalid: o/r has several models: name one as o/r/FILE or o/r:QUANTISATION; it has a-Q5_0.gguf, b-Q6_K.gguf");
  EXPECT_EQ(select(listing({"a-Q4_0.gguf", "b-Q4_0.gguf"}), "o/r:Q4_0"),
            "invalid: o/r has several models: name one as o/r/FILE or o/r:QUANTISATION; it has a-Q4_0.gguf, b-Q4_0.gguf");
}

TEST(HubSelection, TakesAllPartsOfASplitModel) {
  const HubListing split = listing({"Q8_0/m-00002-of-00002.gguf", "Q8_0/m-00001-of-00002.gguf", "m-Q4_0.gguf"});
  EXPECT_EQ(select(split, "o/r:Q8_0"), "Q8_0/m-00001-of-00002.gguf Q8_0/m-00002-of-00002.gguf -> m-00001-of-00002.gguf");
  EXPECT_EQ(select(split, "o/r/Q8_0/m-00001-of-00002.gguf"), "Q8_0/m-00001-of-00002.gguf Q8_0/m-00002-of-00002.gguf -> m-00001-of-00002.gguf");
  EXPECT_EQ(select(split, "o/r/Q8_0/m-00002-of-00002.gguf"),
            "invalid: Q8_0/m-00002-of-00002.gguf is not the first part of its model; name Q8_0/m-00001-of-00002.gguf");
  EXPECT_EQ(select(listing({"m-00001-of-00003.gguf", "m-00003-of-00003.gguf"}), "o/r"),
            "not_found: of the 3 parts of m-00001-of-00003.gguf the repository has only 2; its owner must upload the rest");
}

TEST(HubSelection, TakesSafetensorsWithWhatBelongsToThem) {
  const HubListing both = listing({".gitattributes", "README.md", "config.json", "consolidated.safetensors", "m-Q4_K_M.gguf",
                                   "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
                                   "modeling.py", "original/params.json", "pytorch_model.bin", "tokenizer.json", "tokenizer.model"});
  const std::string directory =
      "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json tokenizer.json tokenizer.model -> ";
  EXPECT_EQ(select(both, "o/r", true), directory);
  EXPECT_EQ(select(both, "o/r", false), "m-Q4_K_M.gguf -> m-Q4_K_M.gguf");
  EXPECT_EQ(select(both, "o/r:Q4_K_M", true), "m-Q4_K_M.gguf -> m-Q4_K_M.gguf");
  EXPECT_EQ(select(listing({"m.gguf"}), "o/r", true), "m.gguf -> m.gguf");
  EXPECT_EQ(select(listing({"README.md"}), "o/r", true),
            "not_found: o/r has neither GGUF files nor safetensors at main; name a repository of a model");
  EXPECT_EQ(select(listing({"consolidated.safetensors", "params.json"}), "o/r", true), "consolidated.safetensors params.json -> ");
}

TEST(HubSelection, TakesTheFileThatIsNamed) {
  EXPECT_EQ(select(listing({"a/m.gguf", "b.gguf"}), "o/r/a/m.gguf"), "a/m.gguf -> m.gguf");
  EXPECT_EQ(select(listing({"a/m.gguf", "b.gguf"}), "o/r/m.gguf@dev"),
            "not_found: o/r has no file m.gguf at dev; its GGUF files are a/m.gguf, b.gguf");
}

}  // namespace
}  // namespace thaw::node::pull
