// What a benchmark of cold starts needs to know and do about files in the page cache.
//
//   bench-pages drop FILE...       puts them out of the page cache, and makes sure (mincore): fails if more than 1% stays
//   bench-pages resident FILE...   prints {"bytes":…,"resident":…,"files":[…]}: of all, and what is resident of each
//   bench-pages back FILE...       has the machine own as much free memory as the files take, and some: prints {"bytes":…,"seconds":…}

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kBesideFiles = 512ULL << 20;  // of an engine, besides its file
constexpr int kDropTries = 50;
constexpr auto kDropPause = std::chrono::milliseconds(20);

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "bench-pages: %s\n", what.c_str());
  std::exit(1);
}

class File {
 public:
  File(const std::string& path, int flags) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags)) {
    struct stat status {};
    if (fd_ < 0 || ::fstat(fd_, &status) != 0) fail(path + ": " + std::strerror(errno));
    bytes_ = static_cast<std::uint64_t>(status.st_size);
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_;
  std::uint64_t bytes_ = 0;
};

/// In whole pages.
std::uint64_t resident(const File& file) {
  if (file.bytes() == 0) return 0;
  void* const mapping = ::mmap(nullptr, file.bytes(), PROT_READ, MAP_SHARED, file.fd(), 0);
  if (mapping == MAP_FAILED) fail(file.path() + ": cannot map it");
  std::vector<unsigned char> pages((file.bytes() + kPageBytes - 1) / kPageBytes);
  if (::mincore(mapping, file.bytes(), pages.data()) != 0) fail(file.path() + ": mincore: " + std::strerror(errno));
  ::munmap(mapping, file.bytes());
  return static_cast<std::uint64_t>(std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1U) != 0; })) * kPageBytes;
}

/// Pages stay as long as a dying process maps them, so it may take a few tries.
void drop(const std::string& path) {
  const File file(path, 0);
  ::fdatasync(file.fd());  // dirty pages would stay
  std::uint64_t left = 0;
  for (int i = 0; i < kDropTries; ++i) {
    ::posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED);
    left = resident(file);
    if (left == 0) return;
    std::this_thread::sleep_for(kDropPause);
  }
  if (left > file.bytes() / 100) fail(path + ": " + std::to_string(left) + " bytes do not leave the page cache");
}

void print_resident(const std::vector<std::string>& paths) {
  std::uint64_t bytes = 0;
  std::uint64_t there = 0;
  std::string each;
  for (const std::string& path : paths) {
    const File file(path, 0);
    const std::uint64_t of_it = std::min(file.bytes(), resident(file));
    bytes += file.bytes();
    there += of_it;
    each += (each.empty() ? "" : ",") + std::to_string(of_it);
  }
  std::printf("{\"bytes\":%llu,\"resident\":%llu,\"files\":[%s]}\n", static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(there),
              each.c_str());
}

/// A virtual machine gives free memory back to its host (free page reporting, after two seconds), and gets it anew, page by page, when it is
/// touched: slower than any disk, and no property of what is measured. Memory that was in use a moment ago is still the machine's.
void back(const std::vector<std::string>& paths) {
  std::uint64_t bytes = kBesideFiles;
  for (const std::string& path : paths) bytes += File(path, 0).bytes();
  const auto begin = std::chrono::steady_clock::now();
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("no memory");
  ::madvise(memory, bytes, MADV_HUGEPAGE);
  for (std::uint64_t at = 0; at < bytes; at += kPageBytes) static_cast<volatile char*>(memory)[at] = 1;
  ::munmap(memory, bytes);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("{\"bytes\":%llu,\"seconds\":%.3f}\n", static_cast<unsigned long long>(bytes), took.count());
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  const std::vector<std::string> paths(argv + std::min(argc, 2), argv + argc);
  if (paths.empty()) fail("usage: bench-pages drop|resident|back FILE...");
  if (command == "drop")
    for (const std::string& path : paths) drop(path);
  else if (command == "resident")
    print_resident(paths);
  else if (command == "back")
    back(paths);
  else
    fail("unknown command " + std::string(command));
  return 0;
}
