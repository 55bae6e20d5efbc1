#include "node/sandbox/io_limit.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "node/sandbox/files.h"

namespace thaw::node {

base::Status limit_writes(const CgroupHost& host, const std::string& group_path, const IoLimit& limit) {
  const std::string mount = host.mount_of(host.unified() ? "io" : "blkio");
  const std::string file = mount + group_path + (host.unified() ? "/io.max" : "/blkio.throttle.write_bps_device");
  if (mount.empty() || ::access(file.c_str(), F_OK) != 0) return {};
  return write_control_file(file,
                            fmt::format("{} {}{}", limit.disk, host.unified() ? "wbps=" : "", limit.write_bytes_per_s));
}

std::optional<std::string> disk_number_of(const std::string& path, const std::string& sysfs) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return disk_number_of_device(status.st_dev, sysfs);
}

std::optional<std::string> disk_number_of_device(std::uint64_t device, const std::string& sysfs) {
  std::error_code error;
  std::filesystem::path place =
      std::filesystem::canonical(fmt::format("{}/dev/block/{}:{}", sysfs, major(device), minor(device)), error);
  if (error) return std::nullopt;
  if (std::filesystem::exists(place / "partition", error)) place = place.parent_path();
  auto number = read_small_file(place / "dev");
  if (!number.ok()) return std::nullopt;
  while (!number->empty() && number->back() == '\n') number->pop_back();
  if (number->empty()) return std::nullopt;
  return *number;
}

}  // namespace thaw::node
