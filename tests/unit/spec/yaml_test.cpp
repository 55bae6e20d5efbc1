#include "spec/yaml.h"

#include <gtest/gtest.h>

namespace thaw::spec {
namespace {

std::string error(const std::string& text) {
  Problems problems;
  const auto value = read_yaml(text, problems);
  EXPECT_NE(value.has_value(), !problems.empty());
  return problems.empty() ? "(no error)" : problems.to_error("f").message;
}

TEST(Yaml, KeepsTextPlacesAndQuotes) {
  Problems problems;
  const auto root = read_yaml("# comment\na: 'x'\nb:\n  - 1\n  - ~\n", problems);
  ASSERT_TRUE(root.has_value()) << problems.to_error("f").message;
  ASSERT_EQ(root->keys.size(), 2U);
  EXPECT_EQ(root->keys[1].text, "b");
  EXPECT_EQ(root->keys[1].place.line, 3);
  EXPECT_TRUE(root->items[0].quoted);
  EXPECT_EQ(root->items[0].place.column, 4);
  ASSERT_EQ(root->items[1].items.size(), 2U);
  EXPECT_EQ(root->items[1].items[0].text, "1");
  EXPECT_FALSE(root->items[1].items[0].quoted);
  EXPECT_EQ(root->items[1].items[1].kind, YamlValue::Kind::null);
}

TEST(Yaml, RefusesWhatIsNoSingleDocument) {
  EXPECT_EQ(error(""), "f:1:1: the text is empty");
  EXPECT_EQ(error("# only a comment\n"), "f:1:1: the text is empty");
  EXPECT_EQ(error("a: 1\n---\nb: 2\n"), "f:2:1: a second document starts here; put each in a file of its own");
  EXPECT_EQ(error("---\na: 1\n...\n"), "(no error)");
  EXPECT_EQ(error("a: [1, 2\nb: 3\n"), "f:2:2: cannot read the YAML: end of sequence flow not found");
  EXPECT_EQ(error("\ta: 1\n").substr(0, 26), "f:1:3: cannot read the YAM");
}

TEST(Yaml, RefusesAnchorsBeforeTheyExpand) {
  EXPECT_EQ(error("a: &x [1]\n"), "f:1:4: anchors and aliases (&name, *name) are not supported; write the value out");
  EXPECT_EQ(error("a: *x\n").substr(0, 7), "f:1:4: ");
  EXPECT_EQ(error("&k a: 1\n"), "f:1:1: anchors and aliases (&name, *name) are not supported; write the value out");
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last + "," + last + "," + last + "]\n";
  }
  EXPECT_EQ(error(bomb).substr(0, 34), "f:1:5: anchors and aliases (&name,");
}

TEST(Yaml, RefusesTags) {
  EXPECT_EQ(error("a: !!binary aGk=\n"), "f:1:4: tags (tag:yaml.org,2002:binary) are not supported; leave it out");
  EXPECT_EQ(error("a: !x {}\n"), "f:1:4: tags (!x) are not supported; leave it out");
}

TEST(Yaml, RefusesStrangeKeys) {
  EXPECT_EQ(error("? [a]\n: 1\n"), "f:1:3: a key must be a word, not a list or a mapping");
  EXPECT_EQ(error("{a: 1}: 1\n"), "f:1:1: a key must be a word, not a list or a mapping");
  EXPECT_EQ(error("~: 1\n"), "f:1:1: a key is missing before this \":\"");
}

TEST(Yaml, BoundsSizeDepthAndCount) {
  EXPECT_EQ(error(std::string(kMaxYamlBytes + 1, 'a')), "f:1:1: 1048577 bytes of text; at most 1048576 are read");
  EXPECT_EQ(error(std::string(32, '[') + std::string(32, ']')), "(no error)");
  EXPECT_EQ(error(std::string(33, '[') + std::string(33, ']')), "f:1:33: nested deeper than 32 levels");
  std::string values = "[";
  for (std::size_t i = 0; i < kMaxYamlValues; ++i) values += "a,\n";
  EXPECT_EQ(error(values + "]"), "f:10000:1: more than 10000 values; that is no spec");
}

TEST(Yaml, RefusesBytesThatNoTextHas) {
  EXPECT_EQ(error(std::string("a: 1\nb: \0", 9)), "f:2:4: control character \\x00 in the text; remove it");
  EXPECT_EQ(error("a: \x04 b"), "f:1:4: control character \\x04 in the text; remove it");
  EXPECT_EQ(error("a: \xc3\x28"), "f:1:4: not UTF-8; save the file as UTF-8");
  EXPECT_EQ(error("\xff\xfe"), "f:1:1: not UTF-8; save the file as UTF-8");
  EXPECT_EQ(error("a: \xed\xa0\x80"), "f:1:4: not UTF-8; save the file as UTF-8");  // a surrogate
  EXPECT_EQ(error("a: \xf0\x9f\xa6\x99"), "(no error)");
}

// yaml-cpp must come back from all of these, quickly and without reading outside the text (the sanitisers watch).
TEST(Yaml, SurvivesHostileText) {
  for (const char* piece : {"[", "{", "- ", "? ", ": ", "a: ",   "{a: ", "\"",   "'",    "|\n ",
                            "!", "&", "*",  "%",  "#",  "---\n", "\\",   "[a, ", "? - ", "!<"}) {
    std::string text;
    while (text.size() < 200'000) text += piece;
    Problems problems;
    const auto value = read_yaml(text, problems);
    EXPECT_NE(value.has_value(), !problems.empty()) << piece;
  }
  const std::string whole = "apiVersion: thaw/v1\nspec: {a: [\"x\\u00e9\", 'y'], b: |\n  text\n}\n";
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    Problems problems;
    const auto value = read_yaml(whole.substr(0, length), problems);
    EXPECT_NE(value.has_value(), !problems.empty()) << length;
  }
}

}  // namespace
}  // namespace thaw::spec
