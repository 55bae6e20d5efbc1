#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cctype>
#include <cerrno>
#include <fstream>
#include <string>

#include "unit/node/weights_files.h"

// libthaw_lazy_map.so as a library, not preloaded: its functions by name, against libc's.
namespace thaw::node::test {
namespace {

constexpr std::uint64_t kBytes = 4ULL << 20;

class LazyMap : public ::testing::Test {
 protected:
  using Mmap = void* (*)(void*, std::size_t, int, int, int, off_t);
  using Madvise = int (*)(void*, std::size_t, int);

  void SetUp() override {
    const std::string path = std::string(THAW_BINARY_DIR) + "/libthaw_lazy_map.so";
    library_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << ::dlerror();
    map_ = reinterpret_cast<Mmap>(::dlsym(library_, "mmap"));
    map64_ = reinterpret_cast<Mmap>(::dlsym(library_, "mmap64"));
    advise_ = reinterpret_cast<Madvise>(::dlsym(library_, "posix_madvise"));
    ASSERT_TRUE(map_ != nullptr && map64_ != nullptr && advise_ != nullptr);
    path_ = write_weights(directory_ / "file", kBytes);
    fd_ = Fd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    if (!make_cold(path_)) GTEST_SKIP() << "/var/tmp is no disk";
  }
  void TearDown() override {
    if (library_ != nullptr) ::dlclose(library_);
  }

  DiskDirectory directory_;
  std::string path_;
  Fd fd_;
  void* library_ = nullptr;
  Mmap map_ = nullptr;
  Mmap map64_ = nullptr;
  Madvise advise_ = nullptr;
};

TEST_F(LazyMap, APopulatedMappingOfWeightsReadsNothingUntilItIsTouched) {
  for (const Mmap map : {map_, map64_}) {
    auto* const bytes = static_cast<const char*>(map(nullptr, kBytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd_.get(), 0));
    ASSERT_NE(static_cast<const void*>(bytes), MAP_FAILED);
    EXPECT_EQ(advise_(const_cast<char*>(bytes), kBytes, POSIX_MADV_WILLNEED), 0);
    EXPECT_EQ(resident_bytes_of(path_), 0U);
    EXPECT_EQ(bytes[kBytes - 1], byte_at(kBytes - 1));
    EXPECT_GT(resident_bytes_of(path_), 0U);
    ::munmap(const_cast<char*>(bytes), kBytes);
    ASSERT_TRUE(make_cold(path_));
  }
}

/// Whether the mapping at `address` is one for which huge pages are asked for ("hg" in its VmFlags).
bool wants_huge_pages(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') != std::string::npos && line.find(':') > line.find('-') && std::isxdigit(static_cast<unsigned char>(line[0])) != 0)
      here = std::stoull(line, nullptr, 16) == reinterpret_cast<std::uintptr_t>(address);
    if (here && line.starts_with("VmFlags:")) return line.find(" hg") != std::string::npos;
  }
  return false;
}

TEST_F(LazyMap, HugePagesAreAskedForWhereWeightsAreMappedAndNowhereElse) {
  void* const weights = map_(nullptr, kBytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd_.get(), 0);
  void* const other = map_(nullptr, kBytes, PROT_READ, MAP_SHARED, fd_.get(), 0);
  ASSERT_TRUE(weights != MAP_FAILED && other != MAP_FAILED);
  EXPECT_FALSE(wants_huge_pages(other));
  const bool possible = ::madvise(other, kBytes, MADV_HUGEPAGE) == 0;  // else this kernel has none for files
  EXPECT_EQ(wants_huge_pages(weights), possible);
  ::munmap(weights, kBytes);
  ::munmap(other, kBytes);
}

TEST_F(LazyMap, OtherMappingsAreLeftAsTheyAre) {
  void* const shared = map_(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_.get(), 0);
  ASSERT_NE(shared, MAP_FAILED);
  EXPECT_EQ(resident_bytes_of(path_), kBytes) << "populated, as asked";
  ::munmap(shared, kBytes);

  void* const fixed = map_(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(fixed, MAP_FAILED);
  EXPECT_EQ(map_(fixed, kBytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd_.get(), 0), fixed);
  EXPECT_EQ(*static_cast<const char*>(fixed), byte_at(0));
  EXPECT_EQ(map_(fixed, kBytes - 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd_.get(), 4096), fixed);
  EXPECT_EQ(*static_cast<const char*>(fixed), byte_at(4096)) << "the offset counts";
  EXPECT_EQ(advise_(fixed, kBytes, POSIX_MADV_RANDOM), 0);
  EXPECT_EQ(advise_(fixed, kBytes, POSIX_MADV_DONTNEED), 0);
  ::munmap(fixed, kBytes);
}

TEST_F(LazyMap, ErrorsAreLibcs) {
  errno = 0;
  EXPECT_EQ(map_(nullptr, 0, PROT_READ, MAP_SHARED, fd_.get(), 0), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(map_(nullptr, kBytes, PROT_READ, MAP_SHARED, 9999, 0), MAP_FAILED);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(advise_(reinterpret_cast<void*>(1), kBytes, POSIX_MADV_RANDOM), EINVAL);
}

}  // namespace
}  // namespace thaw::node::test
