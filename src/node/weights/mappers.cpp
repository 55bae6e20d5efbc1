#include "node/weights/mappers.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileId&) const = default;
};

std::optional<FileId> identify(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return FileId{status.st_dev, status.st_ino};
}

/// Takes a number and the character after it off the front of a line.
template <typename Number>
bool take_number(std::string_view& line, int base, char after, Number& number) {
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), number, base);
  if (error != std::errc{} || end == line.data() + line.size() || *end != after) return false;
  line.remove_prefix(static_cast<std::size_t>(end - line.data()) + 1);
  return true;
}

struct MapsLine {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  FileId file;
};

/// "7f0000000000-7f0000100000 r--s 00000000 fe:00 1234   /path" (proc_pid_maps(5)).
bool parse(std::string_view line, MapsLine& into) {
  std::uint64_t offset = 0;
  unsigned major = 0;
  unsigned minor = 0;
  if (!take_number(line, 16, '-', into.begin) || !take_number(line, 16, ' ', into.end)) return false;
  line.remove_prefix(std::min(line.size(), line.find(' ') + 1));  // permissions
  if (!take_number(line, 16, ' ', offset) || !take_number(line, 16, ':', major) || !take_number(line, 16, ' ', minor))
    return false;
  into.file.device = ::makedev(major, minor);
  return take_number(line, 10, ' ', into.file.inode);
}

/// Some file systems (btrfs, overlays) show another device in maps than stat() does; the link to the mapped file itself
/// does not lie.
bool shows(const MapsLine& line, const FileId& file, const std::string& process) {
  if (line.file.inode != file.inode) return false;
  return line.file.device == file.device ||
         identify(fmt::format("{}/map_files/{:x}-{:x}", process, line.begin, line.end)) == file;
}

std::vector<Mapping> mappings_of(const std::string& process, const std::vector<FileId>& files) {
  std::vector<Mapping> mappings;
  const auto maps = read_small_file(process + "/maps");
  if (!maps.ok()) return mappings;
  for (std::string_view rest = *maps; !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size() - 1);
    MapsLine line;
    if (parse(rest.substr(0, end + 1), line) &&
        std::any_of(files.begin(), files.end(), [&](const FileId& file) { return shows(line, file, process); }))
      mappings.push_back({line.begin, line.end - line.begin});
    rest.remove_prefix(end + 1);
  }
  return mappings;
}

}  // namespace

std::vector<Mapper> find_mappers(const std::vector<std::string>& files) {
  std::vector<FileId> ids;
  for (const std::string& file : files)
    if (const auto id = identify(file)) ids.push_back(*id);
  std::vector<Mapper> mappers;
  if (ids.empty()) return mappers;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    const auto [end, wrong] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (wrong != std::errc{} || end != name.data() + name.size()) continue;
    if (auto mappings = mappings_of(entry.path(), ids); !mappings.empty())
      mappers.push_back({pid, std::move(mappings)});
  }
  std::sort(mappers.begin(), mappers.end(), [](const Mapper& one, const Mapper& other) { return one.pid < other.pid; });
  return mappers;
}

}  // namespace thaw::node
