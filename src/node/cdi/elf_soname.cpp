#include "node/cdi/elf_soname.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <vector>

#include "node/sandbox/fd.h"

namespace thaw::node {
namespace {

// More than any library has: libcuda.so.1 has 9 segments and 40 dynamic entries.
constexpr std::size_t kMaxSegments = 128;
constexpr std::size_t kMaxDynamicEntries = 4096;
constexpr std::size_t kMaxName = 255;  // of a file (NAME_MAX)

using FileHeader = ElfW(Ehdr);
using Segment = ElfW(Phdr);
using Dynamic = ElfW(Dyn);

#if defined(__x86_64__)
constexpr std::uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr std::uint16_t kMachine = EM_AARCH64;
#else
#error "which machine's libraries?"
#endif
static_assert(std::endian::native == std::endian::little && sizeof(void*) == 8,
              "headers are read as they lie in the file");

/// Exactly so many bytes, or false.
bool read_at(int fd, void* to, std::size_t bytes, std::uint64_t offset) {
  if (offset > static_cast<std::uint64_t>(INT64_MAX) - bytes) return false;
  std::size_t at = 0;
  while (at < bytes) {
    const ssize_t got = ::pread(fd, static_cast<char*>(to) + at, bytes - at, static_cast<off_t>(offset + at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += static_cast<std::size_t>(got);
  }
  return true;
}

bool is_own_library(const FileHeader& header) {
  return std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_ident[EI_CLASS] == ELFCLASS64 &&
         header.e_ident[EI_DATA] == ELFDATA2LSB && header.e_type == ET_DYN && header.e_machine == kMachine &&
         header.e_phentsize == sizeof(Segment);
}

/// Where in the file an address is that `bytes` can be read at.
std::optional<std::uint64_t> offset_of(const std::vector<Segment>& segments, std::uint64_t address) {
  for (const Segment& segment : segments)
    if (segment.p_type == PT_LOAD && address >= segment.p_vaddr && address - segment.p_vaddr < segment.p_filesz)
      return segment.p_offset + (address - segment.p_vaddr);
  return std::nullopt;
}

/// What the dynamic section says of the name.
struct NamePlace {
  std::optional<std::uint64_t> strings_address, strings_bytes, name_offset;
};

NamePlace find_name(int fd, const Segment& dynamic) {
  NamePlace place;
  const std::size_t entries = std::min<std::uint64_t>(dynamic.p_filesz / sizeof(Dynamic), kMaxDynamicEntries);
  std::vector<Dynamic> read(entries);
  if (!read_at(fd, read.data(), entries * sizeof(Dynamic), dynamic.p_offset)) return place;
  for (const Dynamic& entry : read) {
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_STRTAB) place.strings_address = entry.d_un.d_ptr;
    if (entry.d_tag == DT_STRSZ) place.strings_bytes = entry.d_un.d_val;
    if (entry.d_tag == DT_SONAME) place.name_offset = entry.d_un.d_val;
  }
  return place;
}

bool is_file_name(const std::string& name) {
  const auto is_plain = [](char c) { return c > ' ' && c < 0x7f && c != '/'; };
  return !name.empty() && name.size() <= kMaxName && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(), is_plain);
}

}  // namespace

std::optional<std::string> soname_of(int fd) {
  FileHeader header{};
  if (!read_at(fd, &header, sizeof header, 0) || !is_own_library(header)) return std::nullopt;
  std::vector<Segment> segments(std::min<std::size_t>(header.e_phnum, kMaxSegments));
  if (!read_at(fd, segments.data(), segments.size() * sizeof(Segment), header.e_phoff)) return std::nullopt;
  const auto dynamic =
      std::find_if(segments.begin(), segments.end(), [](const Segment& one) { return one.p_type == PT_DYNAMIC; });
  if (dynamic == segments.end()) return std::nullopt;
  const NamePlace place = find_name(fd, *dynamic);
  if (!place.strings_address || !place.strings_bytes || !place.name_offset ||
      *place.name_offset >= *place.strings_bytes)
    return std::nullopt;
  const auto strings = offset_of(segments, *place.strings_address);
  if (!strings) return std::nullopt;
  std::array<char, kMaxName + 1> text{};
  const std::size_t bytes = std::min<std::uint64_t>(text.size(), *place.strings_bytes - *place.name_offset);
  if (!read_at(fd, text.data(), bytes, *strings + *place.name_offset)) return std::nullopt;
  const auto end = std::find(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bytes), '\0');
  if (end == text.begin() + static_cast<std::ptrdiff_t>(bytes)) return std::nullopt;
  std::string name(text.begin(), end);
  if (!is_file_name(name)) return std::nullopt;
  return name;
}

std::optional<std::string> soname_of(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  return soname_of(file.get());
}

}  // namespace thaw::node
