#include "node/weights/integrity.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "unit/node/gguf_builder.h"
#include "unit/node/weights_files.h"

namespace thaw::node {
namespace {

using test::DiskDirectory;
using test::make_cold;
using test::resident_bytes_of;
using test::write_weights;
using testing::TemporaryDirectory;
using testing::write_file;

bool always() { return true; }

std::string digest_of(const std::string& path) {
  const auto hashed = hash_file(path, always);
  return hashed.ok() ? hashed->sha256 : hashed.error().message;
}

TEST(Integrity, DigestsAreThoseOfTheStandard) {
  const TemporaryDirectory directory;
  // FIPS 180-2, appendix B, and of nothing.
  write_file(directory / "abc", "abc");
  EXPECT_EQ(digest_of(directory / "abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  write_file(directory / "none", "");
  EXPECT_EQ(digest_of(directory / "none"), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  write_file(directory / "million", std::string(1'000'000, 'a'));
  EXPECT_EQ(digest_of(directory / "million"), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Integrity, TheWayTheBytesComeMakesNoDifference) {
  const DiskDirectory directory;
  constexpr std::uint64_t kBytes = 3 * kHashChunkBytes + 1234;
  const std::string path = write_weights(directory / "w", kBytes);
  const std::string from_cache = digest_of(path);
  ASSERT_EQ(from_cache.size(), 64U);
  if (!make_cold(path)) GTEST_SKIP() << "files here have no page cache to leave";
  EXPECT_EQ(digest_of(path), from_cache);
  EXPECT_EQ(resident_bytes_of(path), 0U) << "nobody asked for these bytes to be in memory";
  // Part of it in the cache: that part stays there, the rest stays out.
  {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM);  // no readahead
    std::vector<char> chunk(kHashChunkBytes);
    ASSERT_EQ(::pread(fd.get(), chunk.data(), chunk.size(), 0), static_cast<ssize_t>(chunk.size()));
  }
  const std::uint64_t resident = resident_bytes_of(path);
  EXPECT_EQ(digest_of(path), from_cache);
  EXPECT_EQ(resident_bytes_of(path), resident);
}

TEST(Integrity, AStampIsOfWhatALinkLeadsTo) {
  const TemporaryDirectory directory;
  write_file(directory / "file", "abc");
  std::filesystem::create_symlink("file", directory / "link");
  const auto stamp = stamp_file(directory / "link");
  ASSERT_TRUE(stamp.ok()) << stamp.error().message;
  EXPECT_EQ(stamp->path, directory / "link");
  EXPECT_EQ(stamp->bytes, 3U);
  struct stat status {};
  ASSERT_EQ(::stat((directory / "file").c_str(), &status), 0);
  EXPECT_EQ(stamp->inode, status.st_ino);
  EXPECT_GT(stamp->mtime_ns, 1'700'000'000'000'000'000U);
}

TEST(Integrity, AFileThatChangesWhileItIsReadHasNoDigest) {
  const TemporaryDirectory directory;
  const std::string path = directory / "w";
  const auto change = [&](const std::function<void()>& act) {
    write_file(path, std::string(2 * kHashChunkBytes, 'x'));
    int asked = 0;
    const auto hashed = hash_file(path, [&] {
      if (++asked == 2) act();
      return true;
    });
    return hashed.ok() ? base::Error{} : hashed.error();
  };
  const auto appended = change([&] { std::ofstream(path, std::ios::app) << "y"; });
  EXPECT_EQ(appended.kind, base::ErrorKind::conflict);
  EXPECT_NE(appended.message.find(path), std::string::npos) << appended.message;
  EXPECT_EQ(change([&] { std::filesystem::resize_file(path, 5); }).kind, base::ErrorKind::conflict);
  EXPECT_EQ(change([&] {
              write_file(directory / "new", std::string(2 * kHashChunkBytes, 'x'));
              std::filesystem::rename(directory / "new", path);
            }).kind,
            base::ErrorKind::conflict);
  EXPECT_EQ(change([&] { std::filesystem::remove(path); }).kind, base::ErrorKind::not_found);
}

TEST(Integrity, EndsEarlyWhenItIsTold) {
  const TemporaryDirectory directory;
  write_file(directory / "w", std::string(3 * kHashChunkBytes, 'x'));
  int asked = 0;
  const auto hashed = hash_file(directory / "w", [&] { return ++asked < 3; });
  ASSERT_FALSE(hashed.ok());
  EXPECT_EQ(hashed.error().kind, base::ErrorKind::unavailable);
  EXPECT_EQ(asked, 3);
}

TEST(Integrity, OtherThanRegularFilesHaveNeitherStampNorDigest) {
  const TemporaryDirectory directory;
  EXPECT_EQ(stamp_file(directory / "absent").error().kind, base::ErrorKind::not_found);
  EXPECT_EQ(hash_file(directory / "absent", always).error().kind, base::ErrorKind::not_found);
  EXPECT_EQ(stamp_file(directory.path()).error().kind, base::ErrorKind::invalid);
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(hash_file(directory / "fifo", always).error().kind, base::ErrorKind::invalid);
}

}  // namespace
}  // namespace thaw::node
