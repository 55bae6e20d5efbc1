#include "spec/source_ref.h"

#include <gtest/gtest.h>

#include "spec/parse.h"

namespace thaw::spec {
namespace {

TEST(HubRef, IsReadInAllItsForms) {
  const auto read = [](const char* text) {
    const auto ref = parse_hub_ref(text);
    EXPECT_TRUE(ref.ok()) << text;
    if (!ref.ok()) return HubRef{};
    const auto again = parse_hub_ref(to_string(*ref));
    EXPECT_TRUE(again.ok()) << text;
    if (again.ok()) {
      EXPECT_EQ(to_string(*again), to_string(*ref));
    }
    return *ref;
  };
  EXPECT_EQ(read("org/repo").repo, "org/repo");
  EXPECT_EQ(read("org/repo").revision, "main");
  EXPECT_EQ(read("o/r/a b/m-1.gguf").file, "a b/m-1.gguf");
  EXPECT_EQ(read("o/r:Q4_K_M").quantisation, "Q4_K_M");
  const HubRef ref = read("o/r:UD-Q4_K_XL@refs/pr/3");
  EXPECT_EQ(ref.quantisation, "UD-Q4_K_XL");
  EXPECT_EQ(ref.revision, "refs/pr/3");
  EXPECT_EQ(read("o/r/m.gguf@0123abc").revision, "0123abc");
  EXPECT_EQ(to_string(read("o/r@main")), "o/r");
}

TEST(HubRef, RefusesWhatLeadsElsewhere) {
  for (const char* text : {"",
                           "repo",
                           "/repo",
                           "org/",
                           "../repo",
                           "org/..",
                           "org/repo/",
                           "org/repo//x",
                           "org/repo/../x",
                           "org/repo/.",
                           "org/repo:",
                           "org/repo:Q4/x",
                           "org/repo@",
                           "org/repo@a..b/../c",
                           "org/repo@/x",
                           "org/repo@a?b",
                           "org/repo/m.gguf:Q4",
                           "o rg/repo",
                           "org/re?po",
                           "org/repo/m%2f",
                           "org/repo/a\nb",
                           "http://x/y"}) {
    const auto ref = parse_hub_ref(text);
    EXPECT_FALSE(ref.ok()) << text;
    if (!ref.ok()) {
      EXPECT_NE(ref.error().message.find("org/repo:Q4_K_M"), std::string::npos) << ref.error().message;
    }
  }
}

TEST(Url, IsReadIntoWhoIsAsked) {
  const auto url = parse_url("HTTPS://Models.Example.:8443/a/b%20c.gguf?token=1#x");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(*url, (Url{true, "models.example", 8443, "/a/b%20c.gguf?token=1"}));
  EXPECT_EQ(url->file_name(), "b c.gguf");
  EXPECT_EQ(*parse_url("http://[::1]"), (Url{false, "::1", 80, "/"}));
  EXPECT_EQ(parse_url("https://h")->port, 443);
  EXPECT_TRUE(parse_url("https://h/a")->same_origin(*parse_url("https://H:443/b")));
  EXPECT_FALSE(parse_url("https://h/")->same_origin(*parse_url("http://h/")));
  EXPECT_FALSE(parse_url("https://h/")->same_origin(*parse_url("https://h:444/")));
  for (const char* text :
       {"", "h/m", "ftp://h/m", "file:///etc/passwd", "https://", "https:///m", "https://u:p@h/m", "https://u@h/", "https://h:0/", "https://h:65536/",
        "https://h:x/", "https://h /", "https://h/\n", "https://[::1/", "https://[x]/", "https://h\\@evil/", "https://[::1]x/"})
    EXPECT_FALSE(parse_url(text).ok()) << text;
}

TEST(SplitName, TellsPartsOfAModel) {
  const auto split = split_name("d/m-00002-of-00010.gguf");
  ASSERT_TRUE(split);
  EXPECT_EQ(split->part, 2U);
  EXPECT_EQ(split->count, 10U);
  EXPECT_EQ(split->name(10), "d/m-00010-of-00010.gguf");
  for (const char* name : {"m.gguf", "m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-1-of-3.gguf", "m-00001-of-09999.gguf",
                           "-00001-of-00003.gguf", "m_00001-of-00003.gguf"})
    EXPECT_FALSE(split_name(name)) << name;
}

TEST(SourceFromText, KnowsSourcesFromNames) {
  EXPECT_EQ(source_from_text("hf:o/r:Q8_0")->hf, "o/r:Q8_0");
  EXPECT_EQ(source_from_text("hf.co/o/r")->hf, "o/r");
  EXPECT_EQ(source_from_text("https://huggingface.co/o/r")->hf, "o/r");
  EXPECT_EQ(source_from_text("https://huggingface.co/o/r/resolve/main/m.gguf")->url, "https://huggingface.co/o/r/resolve/main/m.gguf");
  EXPECT_EQ(source_from_text("https://h/m.gguf")->url, "https://h/m.gguf");
  EXPECT_FALSE(source_from_text("stories"));
}

std::string read(const std::string& source) {
  const auto spec = parse_model("apiVersion: thaw/v1\nkind: Model\nmetadata: {name: m}\nspec: {source: " + source + "}\n", "", "");
  if (!spec.ok()) return spec.error().message;
  const auto again = parse_model(to_json(*spec), "", "");
  EXPECT_TRUE(again.ok()) << source;
  if (again.ok()) {
    EXPECT_EQ(to_json(*again), to_json(*spec));
  }
  return to_string(spec->source) + " " + spec->source.sha256 + spec->source.path;
}

TEST(ModelSource, IsOneOfThree) {
  const std::string digest(64, 'a');
  EXPECT_EQ(read("{hf: 'o/r:Q4_K_M'}"), "hf:o/r:Q4_K_M ");
  EXPECT_EQ(read("{url: https://h/m.gguf, sha256: " + std::string(64, 'A') + "}"), "https://h/m.gguf " + digest);
  EXPECT_EQ(read("{hf: o/r, pulledTo: /d/m.gguf}"), "hf:o/r /d/m.gguf");
  EXPECT_EQ(read("{hf: o/r, path: /m}"), "spec.source.path: weights have one source; give path, or hf, or url");
  EXPECT_EQ(read("{path: /m, pulledTo: /m}"), "spec.source.pulledTo: is the server's to say; give path, hf or url");
  EXPECT_EQ(read("{hf: o/r, url: https://h/m}"), "spec.source: has both hf and url; give one");
  EXPECT_EQ(read("{path: /m, sha256: " + digest + "}"), "spec.source: sha256 goes with url");
  EXPECT_EQ(read("{}"), "spec.source: names no weights; give path, hf or url");
  EXPECT_NE(read("{url: https://h/m-00001-of-00002.gguf, sha256: " + digest + "}").find("sha256 is of one file"), std::string::npos);
  EXPECT_NE(read("{url: https://h/m, sha256: xyz}").find("is no SHA-256"), std::string::npos);
  EXPECT_NE(read("{hf: repo}").find("there is no / in it"), std::string::npos);
}

}  // namespace
}  // namespace thaw::spec
