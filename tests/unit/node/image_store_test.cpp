/// Images on disk: whole or none, after every way of being cut off or damaged.
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "node/images/digest.h"
#include "node/images/image_store.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"
#include "node/sandbox/pipes.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;
using Dropped = std::vector<ImageStore::Dropped>;

constexpr std::uint64_t kMiB = 1ULL << 20;

Origin some_origin() {
  Origin origin;
  origin.runtime = "runsc 1 ptrace";
  origin.cpu = "GenuineIntel avx avx2";
  origin.engine = "/opt/engine";
  origin.engine_digest = "abc";
  origin.model_files = {{"/models/m.gguf", 1'000, 1'234'567'890'123'456'789}};
  origin.argv = {"/thaw/engine/llama-server", "-m", "/thaw/model/m.gguf", ""};
  origin.env = {{"A", ""}, {"LANG", "C.UTF-8"}};
  return origin;
}

Manifest some_manifest(const std::string& id) {
  Manifest manifest;
  manifest.image = base::ImageId(id);
  manifest.model = base::ModelName("m");
  manifest.driver = "runsc";
  manifest.created_unix_s = 1'790'000'000;
  manifest.device_bytes = 64 * kMiB;
  manifest.start_took = base::Millis(1'500);
  manifest.origin = some_origin();
  manifest.extra_args = {"--no-repack"};
  manifest.choice = "as it is: 2MiB";
  return manifest;
}

std::string contents_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put(const std::string& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << contents;
}

class ImageStoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<ImageStore> open(std::uint64_t budget_bytes = 64 * kMiB) {
    dropped.clear();
    auto opened = ImageStore::open({directory(), budget_bytes, 0}, dropped);
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    return opened.ok() ? *std::move(opened) : nullptr;
  }
  /// Makes an image of two files.
  void make(ImageStore& store, const std::string& id, std::size_t bytes = 3'000) {
    auto draft = store.begin(base::ImageId(id), 2 * bytes, dropped);
    ASSERT_TRUE(draft.ok()) << draft.error().message;
    put((*draft)->directory() + "/checkpoint.img", std::string(bytes, 'x'));
    put((*draft)->directory() + "/pages.img", "pages");
    const auto made = store.commit(*std::move(draft), some_manifest(id));
    ASSERT_TRUE(made.ok()) << made.error().message;
    EXPECT_EQ(made->files.size(), 2U);
  }
  [[nodiscard]] std::string directory() const { return top.path() + "/images"; }

  TempDir top;
  Dropped dropped;
};

TEST(Digest, IsSha256) {
  Sha256 digest;
  digest.add("a");
  digest.add("bc");
  EXPECT_EQ(digest.finish(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-4's example
  EXPECT_EQ(sha256_of_file("/dev/null").value_or(""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_FALSE(sha256_of_file("/nowhere").ok());
}

TEST(ImageManifest, IsReadBackUnchanged) {
  Manifest manifest = some_manifest("i-1");
  manifest.files = {{"checkpoint.img", 7, "00ff"}};
  const auto read = parse_manifest(to_json(manifest));
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(to_json(*read), to_json(manifest));
  EXPECT_EQ(difference(read->origin, manifest.origin), "");
  EXPECT_EQ(read->extra_args, manifest.extra_args);
  EXPECT_EQ(read->start_took, manifest.start_took);
}

TEST(ImageManifest, RefusesOtherFormatsAndFilesElsewhere) {
  Manifest manifest = some_manifest("i-1");
  manifest.files = {{"checkpoint.img", 7, "00ff"}};
  std::string other = to_json(manifest);
  other.replace(other.find("\"format\":1"), 10, "\"format\":2");
  const auto read = parse_manifest(other);
  ASSERT_FALSE(read.ok());
  EXPECT_NE(read.error().message.find("another version"), std::string::npos) << read.error().message;
  for (const char* name : {"", "../x", "/etc/passwd", ".hidden", "a/b"}) {
    manifest.files = {{name, 7, "00ff"}};
    EXPECT_FALSE(parse_manifest(to_json(manifest)).ok()) << name;
  }
}

TEST(ImageOrigin, NamesWhatIsNotTheSame) {
  const std::vector<std::pair<std::string, std::function<void(Origin&)>>> changes{
      {"runsc 2", [](Origin& o) { o.runtime = "runsc 2 ptrace"; }},
      {"CPU", [](Origin& o) { o.cpu += " amx"; }},
      {"/opt/other", [](Origin& o) { o.engine = "/opt/other"; }},
      {"libraries", [](Origin& o) { o.engine_digest = "abd"; }},
      {"/models/m.gguf", [](Origin& o) { o.model_files[0].mtime_ns += 1; }},
      {"/models/m.gguf", [](Origin& o) { o.model_files[0].bytes += 1; }},
      {"other files",
       [](Origin& o) {
         o.model_files.push_back({"/models/m2.gguf", 1, 1});
       }},
      {"arguments", [](Origin& o) { o.argv.emplace_back("-c"); }},
      {"environment", [](Origin& o) { o.env["A"] = "b"; }},
  };
  EXPECT_EQ(difference(some_origin(), some_origin()), "");
  for (const auto& [word, change] : changes) {
    Origin now = some_origin();
    change(now);
    EXPECT_NE(difference(some_origin(), now).find(word), std::string::npos) << difference(some_origin(), now);
  }
}

TEST(ImageOrigin, TellsVersionsOfAnEngineApart) {
  const TempDir engine;
  put(engine.path() + "/server", "v1");
  fs::create_directory(engine.path() + "/lib");
  put(engine.path() + "/lib/a.so", "v1");
  const auto first = engine_digest(engine.path());
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(engine_digest(engine.path()).value_or(""), *first);
  put(engine.path() + "/lib/a.so", "v2+");
  EXPECT_NE(engine_digest(engine.path()).value_or(""), *first);
  EXPECT_FALSE(engine_digest("/nowhere").ok());
}

TEST(ImageOrigin, ReadsTheFeaturesOfTheCpu) {
  const TempDir directory;
  put(directory.path() + "/cpuinfo",
      "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: sse avx fpu\n\nprocessor\t: 1\nflags\t\t: sse\n");
  EXPECT_EQ(cpu_features(directory.path() + "/cpuinfo").value_or(""), "GenuineIntel avx fpu sse");
  put(directory.path() + "/cpuinfo", "processor\t: 0\n");
  EXPECT_FALSE(cpu_features(directory.path() + "/cpuinfo").ok());
  EXPECT_TRUE(cpu_features().ok()) << "this machine's";
}

TEST_F(ImageStoreTest, KeepsImagesOverRestarts) {
  {
    const auto store = open();
    make(*store, "one");
    make(*store, "two");
    EXPECT_EQ(store->used_bytes(), 2 * 3'005U);
    EXPECT_EQ(store->begin(base::ImageId("one"), 10, dropped).error().kind, base::ErrorKind::conflict);
  }
  const auto store = open();
  EXPECT_TRUE(dropped.empty());
  ASSERT_EQ(store->list().size(), 2U);
  const auto checked = store->check(base::ImageId("one"), some_origin());
  ASSERT_TRUE(checked.ok()) << checked.error().message;
  EXPECT_EQ(checked->extra_args, std::vector<std::string>{"--no-repack"});
  EXPECT_EQ(store->drop(base::ImageId("one")).value_or(0), 3'005U);
  EXPECT_EQ(store->drop(base::ImageId("one")).value_or(9), 0U);
  EXPECT_EQ(store->check(base::ImageId("one"), some_origin()).error().kind, base::ErrorKind::not_found);
  EXPECT_FALSE(fs::exists(directory() + "/one"));
  struct stat info {};
  ASSERT_EQ(::stat(directory().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0700U) << "memory of engines is nobody else's business";
}

TEST_F(ImageStoreTest, ADraftThatIsGivenUpLeavesNothing) {
  const auto store = open();
  {
    const auto draft = store->begin(base::ImageId("one"), 10 * kMiB, dropped);
    ASSERT_TRUE(draft.ok());
    put((*draft)->directory() + "/checkpoint.img", "half");
    EXPECT_EQ(store->used_bytes(), 10 * kMiB);
  }
  EXPECT_EQ(store->used_bytes(), 0U);
  EXPECT_TRUE(fs::is_empty(directory()));
  auto empty = store->begin(base::ImageId("one"), 10, dropped);
  ASSERT_TRUE(empty.ok());
  EXPECT_FALSE(store->commit(*std::move(empty), some_manifest("one")).ok()) << "an empty image";
  auto larger = store->begin(base::ImageId("one"), 10, dropped);
  ASSERT_TRUE(larger.ok());
  put((*larger)->directory() + "/checkpoint.img", std::string(11, 'x'));
  EXPECT_EQ(store->commit(*std::move(larger), some_manifest("one")).error().kind, base::ErrorKind::exhausted);
  EXPECT_TRUE(fs::is_empty(directory()));
}

TEST_F(ImageStoreTest, RefusesIdsThatAreNoFileNames) {
  const auto store = open();
  for (const char* id : {"", ".x", "../x", "a/b", "A", "x y"}) {
    const auto draft = store->begin(base::ImageId(id), 10, dropped);
    ASSERT_FALSE(draft.ok()) << id;
    EXPECT_EQ(draft.error().kind, base::ErrorKind::invalid) << id;
  }
}

/// The heart of it: whatever prefix of a file a crash leaves, under whatever name, is a whole image or none.
TEST_F(ImageStoreTest, AFileCutShortAnywhereIsNoImage) {
  make(*open(), "one");
  for (const char* name : {"checkpoint.img", "pages.img", "manifest.json", "manifest.sha256"}) {
    const std::string path = directory() + "/one/" + name;
    const std::string whole = contents_of(path);
    const std::size_t step = std::max<std::size_t>(1, whole.size() / 100);
    for (std::size_t bytes = 0; bytes < whole.size(); bytes += step) {
      const fs::path kept = top.path() + "/kept";
      fs::copy(directory() + "/one", kept);
      fs::resize_file(path, bytes);
      const auto store = open();
      ASSERT_TRUE(store);
      EXPECT_TRUE(store->list().empty()) << name << " cut to " << bytes;
      EXPECT_EQ(dropped.size(), 1U);
      EXPECT_FALSE(fs::exists(directory() + "/one"));
      fs::rename(kept, directory() + "/one");
    }
  }
  EXPECT_EQ(open()->list().size(), 1U) << "the whole one still is";
}

TEST_F(ImageStoreTest, AByteChangedAnywhereIsFoundBeforeItIsUsed) {
  make(*open(), "one");
  for (const char* name : {"checkpoint.img", "pages.img", "manifest.json", "manifest.sha256"}) {
    const std::string path = directory() + "/one/" + name;
    const std::string whole = contents_of(path);
    const std::size_t step = std::max<std::size_t>(1, whole.size() / 60);
    for (std::size_t at = 0; at < whole.size(); at += step) {
      const fs::path kept = top.path() + "/kept";
      fs::copy(directory() + "/one", kept);
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 1);
      put(path, damaged);
      const auto store = open();
      const auto checked = store->check(base::ImageId("one"), some_origin());
      EXPECT_FALSE(checked.ok()) << name << " changed at " << at;
      if (!checked.ok() && checked.error().kind == base::ErrorKind::conflict) {
        EXPECT_TRUE(store->drop(base::ImageId("one")).ok());
      }
      fs::remove_all(directory() + "/one");
      fs::rename(kept, directory() + "/one");
    }
  }
}

TEST_F(ImageStoreTest, WhatIsDamagedWhileItIsKnownIsFoundToo) {
  const auto store = open();
  make(*store, "one");
  ASSERT_TRUE(store->check(base::ImageId("one"), some_origin()).ok());
  const std::string path = directory() + "/one/checkpoint.img";
  put(path, std::string(3'000, 'y'));  // as long as before; its time tells
  const auto checked = store->check(base::ImageId("one"), some_origin());
  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().kind, base::ErrorKind::conflict);
  EXPECT_NE(checked.error().message.find("checkpoint.img"), std::string::npos) << checked.error().message;
}

TEST_F(ImageStoreTest, AnotherWorldIsNoPlaceForAnImage) {
  const auto store = open();
  make(*store, "one");
  Origin now = some_origin();
  now.model_files[0].mtime_ns += 1;
  const auto checked = store->check(base::ImageId("one"), now);
  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().kind, base::ErrorKind::conflict);
  EXPECT_NE(checked.error().message.find("/models/m.gguf"), std::string::npos) << checked.error().message;
}

/// A process that is killed at whatever moment of making images leaves whole ones and nothing else.
TEST_F(ImageStoreTest, KilledInTheMiddleItLeavesWholeImagesOnly) {
  std::mt19937 random(1);
  std::size_t whole = 0;
  for (int round = 0; round < 30; ++round) {
    auto progress = make_output_pipe();
    ASSERT_TRUE(progress.ok());
    const pid_t child = ::fork();
    if (child == 0) {
      Dropped ignored;
      auto store = ImageStore::open({directory(), 64 * kMiB, 0}, ignored);
      for (int i = 0;; ++i) {
        const std::string id = "i" + std::to_string(round) + "-" + std::to_string(i);
        auto draft = (*store)->begin(base::ImageId(id), kMiB, ignored);
        if (!draft.ok()) ::_exit(1);
        put((*draft)->directory() + "/checkpoint.img", std::string(100'000, 'x'));
        if (!(*store)->commit(*std::move(draft), some_manifest(id)).ok()) ::_exit(2);
        if (i % 3 == 2) (void)(*store)->drop(base::ImageId(id));
        if (::write(progress->theirs.get(), "x", 1) != 1) ::_exit(3);
      }
    }
    progress->theirs.reset();
    // From the first image on, any moment will do.
    ASSERT_TRUE(eventually([&] { return !read_available(progress->ours.get()).empty(); }));
    const base::TimePoint until = now() + std::chrono::microseconds(random() % 20'000);
    while (now() < until) {
    }
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);

    const auto store = open();
    ASSERT_TRUE(store);
    EXPECT_TRUE(dropped.empty()) << dropped.front().reason;
    for (const Manifest& manifest : store->list()) {
      EXPECT_TRUE(store->check(manifest.image, some_origin()).ok());
      EXPECT_TRUE(store->drop(manifest.image).ok());
      ++whole;
    }
    EXPECT_TRUE(fs::is_empty(directory())) << "nothing half made is left";
  }
  EXPECT_GT(whole, 0U);
}

TEST_F(ImageStoreTest, TheLeastUsefulMakesRoom) {
  const auto store = open(10'000);
  make(*store, "quick", 2'000);
  make(*store, "slow", 2'000);
  // Of one a restore saves 1.4 s, of the other nothing.
  store->note_use(base::ImageId("quick"), base::Millis(100));
  store->note_use(base::ImageId("slow"), base::Seconds(2));
  const auto draft = store->begin(base::ImageId("new"), 7'000, dropped);
  ASSERT_TRUE(draft.ok()) << draft.error().message;
  ASSERT_EQ(dropped.size(), 1U);
  EXPECT_EQ(dropped[0].image.str(), "slow");
  EXPECT_EQ(dropped[0].freed_bytes, 2'005U);
  EXPECT_NE(dropped[0].reason.find("node.images.budget"), std::string::npos) << dropped[0].reason;
  EXPECT_EQ(store->list().size(), 1U);
}

TEST_F(ImageStoreTest, WhatDoesNotFitIsRefusedAndNothingIsLost) {
  const auto store = open(10'000);
  make(*store, "one", 2'000);
  const auto draft = store->begin(base::ImageId("new"), 10'001, dropped);
  ASSERT_FALSE(draft.ok());
  EXPECT_EQ(draft.error().kind, base::ErrorKind::exhausted);
  EXPECT_TRUE(dropped.empty());
  EXPECT_EQ(store->list().size(), 1U);
}

/// A file system of one MiB that is full in the middle.
TEST_F(ImageStoreTest, AFullDiskIsAnErrorAndLeavesNothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "a small file system needs root";
  const std::string small = top.path() + "/small";
  fs::create_directory(small);
  ASSERT_EQ(::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=4m"), 0);
  {
    auto opened = ImageStore::open({small + "/images", 64 * kMiB, 0}, dropped);
    ASSERT_TRUE(opened.ok());
    ImageStore& store = **opened;
    EXPECT_EQ(store.begin(base::ImageId("large"), 8 * kMiB, dropped).error().kind, base::ErrorKind::exhausted)
        << "told before it is written";
    auto draft = store.begin(base::ImageId("one"), kMiB, dropped);
    ASSERT_TRUE(draft.ok()) << draft.error().message;
    put((*draft)->directory() + "/checkpoint.img", std::string(100'000, 'x'));
    put(small + "/somebody else", std::string(4 * kMiB, 'x'));  // takes what is left
    const auto made = store.commit(*std::move(draft), some_manifest("one"));
    ASSERT_FALSE(made.ok());
    EXPECT_TRUE(fs::is_empty(small + "/images"));
    EXPECT_TRUE(store.list().empty());
    EXPECT_EQ(store.used_bytes(), 0U);
  }
  EXPECT_EQ(::umount2(small.c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace thaw::node::test
