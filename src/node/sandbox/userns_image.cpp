#include "node/sandbox/userns_image.h"

#include <cstring>
#include <optional>

#include "node/sandbox/bundle.h"

namespace thaw::node {
namespace {

constexpr std::uint32_t kCommonMagic = 0x54564319;  // criu/include/magic.h: IMG_COMMON_MAGIC
constexpr std::uint32_t kUsernsMagic = 0x55474906;  // USERNS_MAGIC
constexpr std::size_t kHeader_bytes = 3 * sizeof(std::uint32_t);
constexpr unsigned char kMore = 0x80;  // of a varint
// Field numbers and wire types, as one byte each.
constexpr char kUidMap = 0x0a;   // userns_entry.uid_map = 1, a message
constexpr char kGidMap = 0x12;   // userns_entry.gid_map = 2, a message
constexpr char kFirst = 0x08;    // uid_gid_extent.first = 1, a varint
constexpr char kOutside = 0x10;  // .lower_first = 2
constexpr char kCount = 0x18;    // .count = 3

base::Error not_ours() {
  return {base::ErrorKind::invalid,
          "criu's image of the user namespace is not as expected: it is of another format, or of another sandbox"};
}

void put_varint(std::string& to, std::uint32_t value) {
  for (; value >= kMore; value >>= 7) to += static_cast<char>((value & 0x7f) | kMore);
  to += static_cast<char>(value);
}

std::optional<std::uint32_t> take_varint(std::string_view& from) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; !from.empty() && shift < 35; shift += 7) {
    const auto byte = static_cast<unsigned char>(from.front());
    from.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if ((byte & kMore) == 0)
      return value <= UINT32_MAX ? std::optional(static_cast<std::uint32_t>(value)) : std::nullopt;
  }
  return std::nullopt;
}

bool take_number(std::string_view& from, char tag, std::uint32_t& value) {
  if (from.empty() || from.front() != tag) return false;
  from.remove_prefix(1);
  const auto number = take_varint(from);
  value = number.value_or(0);
  return number.has_value();
}

/// One whole range, from 0.
bool take_map(std::string_view& from, char tag) {
  std::uint32_t size = 0;
  if (!take_number(from, tag, size) || size > from.size()) return false;
  std::string_view extent = from.substr(0, size);
  from.remove_prefix(size);
  std::uint32_t first = 1;
  std::uint32_t outside = 0;
  std::uint32_t count = 0;
  return take_number(extent, kFirst, first) && take_number(extent, kOutside, outside) &&
         take_number(extent, kCount, count) && extent.empty() && first == 0 && count == kUidRange;
}

void put_map(std::string& to, char tag, std::uint32_t uid_base) {
  std::string extent(1, kFirst);
  put_varint(extent, 0);
  extent += kOutside;
  put_varint(extent, uid_base);
  extent += kCount;
  put_varint(extent, kUidRange);
  to += tag;
  put_varint(to, static_cast<std::uint32_t>(extent.size()));
  to += extent;
}

}  // namespace

base::Result<std::string> with_uid_base(std::string_view image, std::uint32_t uid_base) {
  std::uint32_t header[3] = {};
  if (image.size() < kHeader_bytes) return not_ours();
  std::memcpy(header, image.data(), kHeader_bytes);
  std::string_view entry = image.substr(kHeader_bytes);
  if (header[0] != kCommonMagic || header[1] != kUsernsMagic || header[2] != entry.size()) return not_ours();
  if (!take_map(entry, kUidMap) || !take_map(entry, kGidMap) || !entry.empty()) return not_ours();

  std::string message;
  put_map(message, kUidMap, uid_base);
  put_map(message, kGidMap, uid_base);
  header[2] = static_cast<std::uint32_t>(message.size());
  std::string out(kHeader_bytes, '\0');
  std::memcpy(out.data(), header, kHeader_bytes);
  return out + message;
}

}  // namespace thaw::node
