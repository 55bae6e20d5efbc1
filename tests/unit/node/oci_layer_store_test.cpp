#include "node/oci/layer_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "node/oci/container_images.h"
#include "node/oci/image_record.h"
#include "node/oci/layer_scan.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"
#include "node/sandbox/image_root.h"
#include "unit/node/oci_tar.h"
#include "unit/temp_dir.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

constexpr LayerBounds kBounds{.entries = 1000, .file_bytes = 10 << 20};
constexpr std::uint32_t kUid = 700'123;

std::string digest(char c) {
  return "sha256:" + std::string(64, c);
}

void put(const std::string& path, const std::string& text, unsigned mode = 0644) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path) << text;
  ASSERT_EQ(::chmod(path.c_str(), mode), 0);
}

bool is_root() {
  return ::geteuid() == 0;
}

TEST(LayerStore, TakesALayerInWholeOrNotAtAll) {
  if (!is_root()) GTEST_SKIP() << "gives files away, which needs root";
  const test::TempDir dir;
  auto store = LayerStore::open(dir.path());
  ASSERT_TRUE(store.ok()) << store.error().message;
  const auto failing = store->add(digest('a'), {}, kBounds, kUid, [](const std::string& tree) -> base::Status {
    put(tree + "/half", "x");
    return base::Error{base::ErrorKind::unavailable, "cut"};
  });
  EXPECT_FALSE(failing.ok());
  EXPECT_FALSE(store->has(digest('a')));
  EXPECT_TRUE(fs::is_empty(dir.file("unpacking")));
  EXPECT_TRUE(fs::is_empty(dir.file("layers")));

  const auto added = store->add(digest('a'), {}, kBounds, kUid, [](const std::string& tree) -> base::Status {
    put(tree + "/secret", "x", 0600);
    put(tree + "/bin/su", "x", 06755);
    fs::create_symlink("/etc/shadow", tree + "/link");
    if (::mkfifo((tree + "/fifo").c_str(), 0600) != 0) return base::Error{base::ErrorKind::io, "mkfifo"};
    return {};
  });
  ASSERT_TRUE(added.ok()) << added.error().message;
  EXPECT_TRUE(store->has(digest('a')));
  const std::string tree = store->tree(digest('a'));
  struct stat info {};
  ASSERT_EQ(::stat((tree + "/secret").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0644U) << "every sandbox may read it";
  EXPECT_EQ(info.st_uid, 0U);
  ASSERT_EQ(::stat((tree + "/bin/su").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0755U) << "without setuid and setgid";
  EXPECT_FALSE(fs::exists(fs::symlink_status(tree + "/fifo")));
  EXPECT_EQ(fs::read_symlink(tree + "/link"), "/etc/shadow");
  ASSERT_EQ(::lstat("/etc/shadow", &info), 0);
  EXPECT_NE(info.st_mode & 07777U, 0644U) << "no link was followed";
  EXPECT_EQ(store->layers().at(digest('a')).entries, 6U);
  ASSERT_TRUE(store->remove(digest('a')).ok());
  EXPECT_FALSE(store->has(digest('a')));
}

TEST(LayerStore, WhatAnEarlierLifeLeftIsRemoved) {
  const test::TempDir dir;
  put(dir.file("unpacking/" + std::string(64, 'b') + "/tree/x"), "x");
  put(dir.file("layers/" + std::string(64, 'c') + "/tree/x"), "x");
  const auto store = LayerStore::open(dir.path());
  ASSERT_TRUE(store.ok());
  EXPECT_TRUE(fs::is_empty(dir.file("unpacking")));
  EXPECT_FALSE(store->has(digest('c'))) << "without its layer.json it is not whole";
  EXPECT_FALSE(store->has("../../etc"));
}

TEST(LayerStore, AnOverlayOfLayersHidesWhatIsGone) {
  if (!is_root()) GTEST_SKIP() << "mounts";
  const test::TempDir dir;
  auto store = LayerStore::open(dir.path());
  ASSERT_TRUE(store.ok());
  const auto add = [&](char c, const LayerContents& contents, const std::function<void(const std::string&)>& fill) {
    const auto added = store->add(digest(c), contents, kBounds, kUid, [&](const std::string& tree) -> base::Status {
      fill(tree);
      return {};
    });
    ASSERT_TRUE(added.ok()) << added.error().message;
  };
  add('1', {}, [](const std::string& tree) {
    put(tree + "/usr/old", "old");
    put(tree + "/usr/kept", "kept");
    put(tree + "/opt/a", "a");
    put(tree + "/opt/b", "b");
    put(tree + "/swap/inner", "old");
    put(tree + "/etc/passwd", "image's");
  });
  add('2', {.entries = 4, .file_bytes = 1, .whiteouts = {"usr/old", "swap"}, .opaque_dirs = {"opt"}}, [](const std::string& tree) {
    put(tree + "/opt/c", "c");
    put(tree + "/swap/new", "new");
  });
  fs::create_directories(dir.file("root"));
  ASSERT_TRUE(make_image_skeleton(dir.file("skeleton")).ok());
  const auto mounted = mount_image_root({store->tree(digest('2')), store->tree(digest('1'))}, dir.file("skeleton"), dir.file("root"), true);
  ASSERT_TRUE(mounted.ok()) << mounted.error().message;
  const std::string root = dir.file("root");
  EXPECT_FALSE(fs::exists(root + "/usr/old"));
  EXPECT_TRUE(fs::exists(root + "/usr/kept"));
  EXPECT_FALSE(fs::exists(root + "/opt/a"));
  EXPECT_TRUE(fs::exists(root + "/opt/c"));
  EXPECT_TRUE(fs::exists(root + "/swap/new"));
  EXPECT_FALSE(fs::exists(root + "/swap/inner")) << "a directory that was replaced shows nothing of the old one";
  EXPECT_NE(*read_small_file(root + "/etc/passwd"), "image's") << "users are the sandbox's own";
  EXPECT_TRUE(fs::is_directory(root + "/thaw/run"));
  EXPECT_NE(::open((root + "/new").c_str(), O_CREAT | O_WRONLY, 0644), 0);
  EXPECT_EQ(errno, EROFS);
  EXPECT_TRUE(unmount_image_root(root).ok());
  EXPECT_TRUE(unmount_image_root(root).ok());
}

TEST(LayerStore, ALayersOwnLinksLeadNowhere) {
  if (!is_root()) GTEST_SKIP() << "makes device files";
  const test::TempDir dir;
  auto store = LayerStore::open(dir.path());
  ASSERT_TRUE(store.ok());
  fs::create_directories(dir.file("victim"));
  const auto added = store->add(digest('a'), {.entries = 2, .file_bytes = 0, .whiteouts = {"way/gone"}, .opaque_dirs = {}}, kBounds, kUid,
                                [&](const std::string& tree) -> base::Status {
                                  fs::create_directories(tree);
                                  fs::create_directory_symlink(dir.file("victim"), tree + "/way");
                                  return {};
                                });
  EXPECT_FALSE(added.ok());
  EXPECT_TRUE(fs::is_empty(dir.file("victim")));
  EXPECT_FALSE(store->has(digest('a')));
}

TEST(LayerScan, FindsTheDigestOfThePlainFile) {
  const test::TempDir dir;
  put(dir.file("layer.tar"), test::Tar().add("x", "hello").end());
  const Fd file(::open(dir.file("layer.tar").c_str(), O_RDONLY));
  const auto scanned = scan_layer(file.get(), false, kBounds, {});
  ASSERT_TRUE(scanned.ok()) << scanned.error().message;
  EXPECT_EQ(scanned->contents.file_bytes, 5U);
  ASSERT_EQ(std::system(("gzip -k " + dir.file("layer.tar")).c_str()), 0);
  const Fd packed(::open(dir.file("layer.tar.gz").c_str(), O_RDONLY));
  const auto same = scan_layer(packed.get(), true, kBounds, {});
  ASSERT_TRUE(same.ok()) << same.error().message;
  EXPECT_EQ(same->diff_id, scanned->diff_id);
  EXPECT_FALSE(scan_layer(file.get(), true, kBounds, {}).ok()) << "no gzip file";
  ASSERT_EQ(::truncate(dir.file("layer.tar.gz").c_str(), 40), 0);
  EXPECT_FALSE(scan_layer(packed.get(), true, kBounds, {}).ok()) << "cut";
}

TEST(LayerScan, ABombIsStopped) {
  const test::TempDir dir;
  ASSERT_EQ(std::system(("head -c 60000000 /dev/zero | gzip > " + dir.file("bomb.gz")).c_str()), 0);
  const Fd packed(::open(dir.file("bomb.gz").c_str(), O_RDONLY));
  EXPECT_EQ(scan_layer(packed.get(), true, {.entries = 10, .file_bytes = 1 << 20}, {}).error().kind, base::ErrorKind::exhausted);
}

/// A store with two images that share a layer, as a life of before left it.
class ImagesOfBefore : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char c : {'1', '2', '3'}) {
      put(dir_.file("oci/layers/" + std::string(64, c) + "/tree/x"), "x");
      put(dir_.file("oci/layers/" + std::string(64, c) + "/layer.json"), R"({"bytes": 100, "entries": 1})");
    }
    record('a', {'1', '2'});
    record('b', {'1', '3', '1'});
    record('c', {'9'});
    put(dir_.file("oci/work/" + std::string(64, 'd') + "/layout/blob"), "half");
  }
  void record(char c, const std::vector<char>& layers) {
    StoredImage image{digest(c), std::string("docker://r.lan/") + c, {}, 1};
    for (const char layer : layers) image.config.diff_ids.push_back(digest(layer));
    image.config.working_dir = "/";
    put(dir_.file("oci/images/" + std::string(64, c) + ".json"), to_json(image));
  }
  std::unique_ptr<ContainerImages> open() {
    ContainerImages::Options options{.directory = dir_.file("oci"), .settings = {}, .home = {}};
    options.home.uid_base = 700'000;
    auto images = ContainerImages::open(std::move(options));
    EXPECT_TRUE(images.ok()) << (images.ok() ? "" : images.error().message);
    return images.ok() ? std::move(*images) : nullptr;
  }
  test::TempDir dir_;
};

TEST_F(ImagesOfBefore, AreThereAgainWhereAllTheirLayersAre) {
  const auto images = open();
  ASSERT_TRUE(images);
  EXPECT_EQ(images->look(digest('a')).state, ContainerImages::State::ready);
  EXPECT_EQ(images->look(digest('c')).state, ContainerImages::State::absent) << "a layer of it is gone";
  const auto root = images->take("docker://r.lan/b", digest('b'), base::Seconds(0), {});
  ASSERT_TRUE(root.ok()) << root.error().message;
  ASSERT_EQ((*root)->layers.size(), 2U) << "topmost first, none twice";
  EXPECT_TRUE((*root)->layers[0].find(std::string(64, '1')) != std::string::npos);
  EXPECT_TRUE((*root)->layers[1].find(std::string(64, '3')) != std::string::npos);
  EXPECT_EQ(images->usage().layer_bytes, 300U);
}

TEST_F(ImagesOfBefore, GarbageIsWhatNobodyHasOrRuns) {
  const auto images = open();
  ASSERT_TRUE(images);
  auto running = images->take("docker://r.lan/b", digest('b'), base::Seconds(0), {});
  ASSERT_TRUE(running.ok());
  const auto said = images->collect({digest('a')}, true);
  ASSERT_TRUE(said.ok());
  EXPECT_EQ(said->size(), 1U) << "what was not finished";
  ASSERT_TRUE(images->collect({}, false).ok());
  EXPECT_EQ(images->look(digest('a')).state, ContainerImages::State::absent);
  EXPECT_FALSE(fs::exists(dir_.file("oci/layers/" + std::string(64, '2'))));
  EXPECT_TRUE(fs::exists(dir_.file("oci/layers/" + std::string(64, '1')))) << "an instance runs on it";
  EXPECT_FALSE(fs::exists(dir_.file("oci/work/" + std::string(64, 'd'))));
  running = base::Error{};
  ASSERT_TRUE(images->collect({}, false).ok());
  EXPECT_TRUE(fs::is_empty(dir_.file("oci/layers")));
  EXPECT_EQ(images->usage().layer_bytes, 0U);
}

}  // namespace
}  // namespace thaw::node
