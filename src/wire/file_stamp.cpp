#include "wire/file_stamp.h"

#include <fmt/format.h>

namespace thaw::wire {

std::string describe_change(const FileStamp& before, const FileStamp& now) {
  if (before == now) return {};
  if (before.bytes != now.bytes) return fmt::format("its size went from {} to {} bytes", before.bytes, now.bytes);
  if (before.inode != now.inode) return "another file was put in its place";
  return "it was written to";
}

}  // namespace thaw::wire
