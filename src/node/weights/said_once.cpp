#include "node/weights/said_once.h"

#include <mutex>
#include <set>

namespace thaw::node {
namespace {
constexpr std::size_t kMaxRemembered = 256;
}

bool first_time_said(const std::string& what) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  return said.size() < kMaxRemembered && said.insert(what).second;
}

}  // namespace thaw::node
