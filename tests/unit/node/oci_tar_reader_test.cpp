#include "node/oci/tar_reader.h"

#include <gtest/gtest.h>

#include "unit/node/oci_tar.h"

namespace thaw::node {
namespace {

using test::Tar;

constexpr LayerBounds kBounds{.entries = 100, .file_bytes = 100'000};

base::Result<LayerContents> read(const std::string& bytes, std::size_t piece = 0, LayerBounds bounds = kBounds) {
  TarReader reader(bounds);
  for (std::size_t at = 0; at < bytes.size(); at += piece == 0 ? bytes.size() : piece)
    THAW_RETURN_IF_ERROR(reader.add(std::string_view(bytes).substr(at, piece == 0 ? bytes.size() : piece)));
  return reader.finish();
}

TEST(TarReader, FindsWhiteoutsInAnyPieces) {
  const std::string long_name = std::string(150, 'd') + "/.wh.gone";
  const std::string tar = Tar()
                              .add("usr/", {}, '5')
                              .add("usr/file", std::string(1000, 'x'))
                              .add("./usr/.wh.old")
                              .add(".wh.top")
                              .add("opt/.wh..wh..opq")
                              .add("link", {}, '2', "../../etc/shadow")
                              .add("././@LongLink", long_name + '\0', 'L')
                              .add("cut")
                              .pax("path", "pax/.wh.gone")
                              .add("short")
                              .end();
  for (const std::size_t piece : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{512}, std::size_t{700}}) {
    const auto contents = read(tar, piece);
    ASSERT_TRUE(contents.ok()) << contents.error().message;
    EXPECT_EQ(contents->entries, 8U);
    EXPECT_EQ(contents->file_bytes, 1000U);
    EXPECT_EQ(contents->whiteouts, (std::vector<std::string>{"usr/old", "top", std::string(150, 'd') + "/gone", "pax/gone"}));
    EXPECT_EQ(contents->opaque_dirs, std::vector<std::string>{"opt"});
  }
}

TEST(TarReader, APaxSizeCountsAndALinkHasNoBody) {
  Tar tar;
  tar.pax("size", "2000").header("big", 0, '0');
  const std::string body(2048, 'x');
  const auto contents = read(tar.open() + body + Tar().header("link", 5000, '1', "big").add("after", "y").end());
  ASSERT_TRUE(contents.ok()) << contents.error().message;
  EXPECT_EQ(contents->entries, 3U);
  EXPECT_EQ(contents->file_bytes, 2001U);
}

TEST(TarReader, TakesOneWithoutItsEnd) {
  const std::string open = Tar().header("x", 600, '0').open();
  EXPECT_TRUE(read(open + std::string(600, 'x')).ok()) << "umoci insert writes no padding";
  EXPECT_TRUE(read(open + std::string(1024, 'x')).ok());
  EXPECT_FALSE(read(open + std::string(599, 'x')).ok());
  EXPECT_FALSE(read(open + std::string(1024, 'x') + "y").ok());
}

TEST(TarReader, RefusesWhatLeadsOutOrUnpacksToMore) {
  std::string bad_sum = Tar().add("x").end();
  bad_sum[0] = 'y';
  const std::vector<std::pair<const char*, std::string>> cases{
      {"..", Tar().add("../x").end()},
      {".. within", Tar().add("a/../../x").end()},
      {"sparse", Tar().add("x", {}, 'S').end()},
      {"pax sparse", Tar().pax("GNU.sparse.major", "1").add("x").end()},
      {"pax for all", Tar().pax("path", "x", 'g').add("y").end()},
      {"unknown type", Tar().add("x", {}, 'Z').end()},
      {"checksum", bad_sum},
      {"cut", Tar().header("x", 2000, '0').open()},
      {"whiteout of nothing", Tar().add("a/.wh.").end()},
      {"whiteout of ..", Tar().add("a/.wh...").end()},
      {"after its end", Tar().add("x").open() + std::string(512, '\0') + Tar().add("y").open()},
      {"long pax", Tar().header("pax", 100'000, 'x').open()},
      {"bad pax", Tar().add("pax", "5 x=", 'x').end()},
      {"text", std::string(1024, 'x')}};
  for (const auto& [what, tar] : cases) EXPECT_FALSE(read(tar).ok()) << what;
}

TEST(TarReader, IsBounded) {
  Tar many;
  for (int i = 0; i < 101; ++i) many.add("f" + std::to_string(i));
  EXPECT_EQ(read(many.end()).error().kind, base::ErrorKind::exhausted);
  EXPECT_EQ(read(Tar().header("big", 100'001, '0').open()).error().kind, base::ErrorKind::exhausted);
  EXPECT_EQ(read(Tar().header("a", 60'000, '0').open() + std::string(60'416, 'x') + Tar().header("b", 60'000, '0').open()).error().kind,
            base::ErrorKind::exhausted);
}

}  // namespace
}  // namespace thaw::node
