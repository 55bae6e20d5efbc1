#include "node/user_directory.h"

#include <pwd.h>
#include <unistd.h>

namespace thaw::node {

std::string user_directory() {
  constexpr std::size_t kMaxRecordBytes = 16 << 10;
  passwd record{};
  passwd* found = nullptr;
  std::string buffer(kMaxRecordBytes, '\0');
  if (::getpwuid_r(::geteuid(), &record, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) return {};
  return found->pw_dir;
}

}  // namespace thaw::node
