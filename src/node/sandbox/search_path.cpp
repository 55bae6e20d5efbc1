#include "node/sandbox/search_path.h"

#include <unistd.h>

#include <sstream>

namespace thaw::node {
namespace {

constexpr const char* kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

}  // namespace

std::string search_path_variable() {
  return std::string("PATH=") + kPath;
}

std::string find_in_search_path(const std::string& name) {
  std::istringstream places(kPath);
  for (std::string place; std::getline(places, place, ':');)
    if (std::string path = place + "/" + name; ::access(path.c_str(), X_OK) == 0) return path;
  return {};
}

}  // namespace thaw::node
