#include "mapped_model.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace thaw::fake_engine {
namespace {

constexpr std::size_t kPageBytes = 4096;

}  // namespace

MappedModel::MappedModel(const std::string& path) {
  if (path.empty()) return;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  void* mapping = MAP_FAILED;
  if (fd >= 0 && ::fstat(fd, &status) == 0) {
    bytes_ = static_cast<std::size_t>(status.st_size);
    mapping = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd, 0);
  }
  if (fd >= 0) ::close(fd);
  if (mapping == MAP_FAILED) {
    std::fprintf(stderr, "fake-engine: cannot map %s\n", path.c_str());
    std::exit(1);  // NOLINT(concurrency-mt-unsafe): one thread
  }
  data_ = static_cast<const char*>(mapping);
  read();
}

MappedModel::~MappedModel() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), bytes_);
}

void MappedModel::read() const {
  for (std::size_t at = 0; at < bytes_; at += kPageBytes)
    static_cast<void>(*static_cast<const volatile char*>(data_ + at));
}

}  // namespace thaw::fake_engine
