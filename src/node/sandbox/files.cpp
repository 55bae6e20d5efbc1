#include "node/sandbox/files.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "node/sandbox/fd.h"

namespace thaw::node {
namespace {

constexpr std::size_t kMaxSmallFile_bytes = 4 << 20;  // /proc/self/mountinfo of a busy container host
constexpr int kRemoveTreeDescriptors = 16;

base::Status write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return base::errno_error("cannot write \"" + std::string(text.substr(0, 60)) + "\" to " + path, errno);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

int remove_entry(const char* path, const struct stat* /*info*/, int /*type*/, struct FTW* /*walk*/) {
  return ::remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

}  // namespace

base::Result<std::string> read_small_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return base::errno_error("cannot open " + path, errno);
  std::string text;
  std::array<char, 16384> chunk{};
  while (text.size() < kMaxSmallFile_bytes) {
    const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::errno_error("cannot read " + path, errno);
    if (got == 0) break;
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return text;
}

base::Status write_control_file(const std::string& path, std::string_view text) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
  if (!fd) return base::errno_error("cannot open " + path, errno);
  return write_all(fd.get(), text, path);
}

base::Status write_file(const std::string& path, std::string_view text, unsigned mode) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd) return base::errno_error("cannot create " + path, errno);
  return write_all(fd.get(), text, path);
}

base::Status make_directories(const std::string& path, unsigned mode) {
  if (::mkdir(path.c_str(), mode) == 0) return {};
  if (errno == ENOENT) {
    const std::string parent = std::filesystem::path(path).parent_path();
    if (parent.empty() || parent == path) return base::errno_error("cannot create directory " + path, ENOENT);
    THAW_RETURN_IF_ERROR(make_directories(parent, mode));
    if (::mkdir(path.c_str(), mode) == 0) return {};
  }
  const int error_number = errno;
  struct stat info {};
  if (error_number == EEXIST && ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return {};
  return base::errno_error("cannot create directory " + path, error_number);
}

base::Status remove_tree(const std::string& path) {
  if (::nftw(path.c_str(), remove_entry, kRemoveTreeDescriptors, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0) return {};
  if (errno == ENOENT) return {};
  return base::errno_error("cannot remove " + path, errno);
}

std::string label_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ULL;
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace thaw::node
