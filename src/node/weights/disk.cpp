#include "node/weights/disk.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "node/sandbox/files.h"
#include "node/weights/direct_file.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxText = 200;  // of a serial number or model

/// One line of mountinfo (proc(5)): "id parent M:m root MOUNT_POINT options [tags] - TYPE SOURCE super-options".
struct Mount {
  std::string device;
  std::string point;
  std::string type;
  std::string source;
  std::string options;
};

/// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 3 < text.size();
    out +=
        escape ? static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0')) : text[i];
    i += escape ? 3 : 0;
  }
  return out;
}

std::optional<Mount> parse_mount(const std::string& line) {
  const std::size_t dash = line.find(" - ");
  if (dash == std::string::npos) return std::nullopt;
  std::istringstream before(line.substr(0, dash));
  std::istringstream after(line.substr(dash + 3));
  std::string skipped;
  Mount mount;
  before >> skipped >> skipped >> mount.device >> skipped >> mount.point;
  after >> mount.type >> mount.source >> mount.options;
  if (mount.type.empty()) return std::nullopt;
  mount.point = unescaped(mount.point);
  mount.source = unescaped(mount.source);
  return mount;
}

bool lies_below(const std::string& path, const std::string& point) {
  return point == "/" || path == point || path.starts_with(point + "/");
}

/// The innermost mount that the path lies below, preferably one of that device: what is mounted over it later may hide
/// it.
std::optional<Mount> mount_of(const std::string& device, const std::string& path, const std::string& mountinfo) {
  const auto table = read_small_file(mountinfo);
  std::optional<Mount> best;
  std::istringstream lines(table.ok() ? *table : std::string());
  for (std::string line; std::getline(lines, line);) {
    auto mount = parse_mount(line);
    if (!mount || !lies_below(path, mount->point)) continue;
    const bool same_device = mount->device == device;
    const bool best_same_device = best && best->device == device;
    if (!best || (same_device && !best_same_device) ||
        (same_device == best_same_device && mount->point.size() >= best->point.size()))
      best = std::move(mount);
  }
  return best;
}

/// First line of a small file, without what does not print; empty when it is not there.
std::string first_line(const fs::path& path) {
  const auto text = read_small_file(path.string());
  std::string line;
  for (const char c : text.ok() ? *text : std::string()) {
    if (c == '\n' || line.size() == kMaxText) break;
    if (c >= ' ' && c < 127) line += c;
  }
  const std::size_t begin = line.find_first_not_of(' ');
  return begin == std::string::npos ? std::string() : line.substr(begin, line.find_last_not_of(' ') - begin + 1);
}

std::string first_of(const fs::path& directory, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (std::string text = first_line(directory / name); !text.empty()) return text;
  return {};
}

std::string kind_of_block(const fs::path& device, const std::string& name) {
  if (name.starts_with("nvme")) return "NVMe";
  if (name.starts_with("vd")) return "virtio";
  if (name.starts_with("loop")) return "loop";
  if (name.starts_with("dm-")) return "device mapper";
  if (name.starts_with("md")) return "RAID";
  if (name.starts_with("ram") || name.starts_with("zram")) return "memory";
  if (name.starts_with("sd")) return first_line(device / "queue/rotational") == "1" ? "hard disk" : "SSD";
  return "disk";
}

/// What sysfs says of a block device; nothing when it is none.
std::optional<Disk> block_device(unsigned major_number, unsigned minor_number, const std::string& sysfs) {
  std::error_code error;
  fs::path device = fs::canonical(fmt::format("{}/dev/block/{}:{}", sysfs, major_number, minor_number), error);
  if (error) return std::nullopt;
  if (fs::exists(device / "partition", error)) device = device.parent_path();
  Disk disk;
  const std::string kernel_name = device.filename().string();
  const std::string given_name = first_line(device / "dm/name");
  disk.name = given_name.empty() ? kernel_name : given_name;
  disk.kind = kind_of_block(device, kernel_name);
  disk.model = disk.kind == "loop" ? first_line(device / "loop/backing_file") : first_line(device / "device/model");
  const std::string serial =
      disk.kind == "loop"
          ? disk.model
          : first_of(device, {"wwid", "device/wwid", "uuid", "serial", "device/serial", "dm/uuid", "md/uuid"});
  // Many virtual disks have no serial number, and some all the same one: the size tells most of them apart.
  disk.id = fmt::format("{}:{}:{}", disk.kind, serial.empty() ? disk.name : serial, first_line(device / "size"));
  return disk;
}

std::string kind_of_file_system(const std::string& type) {
  for (const char* network : {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "9p", "virtiofs", "gpfs", "beegfs",
                              "fuse.glusterfs", "fuse.sshfs"})
    if (type == network) return "network";
  if (type == "overlay" || type == "aufs") return "overlay";
  if (type == "tmpfs" || type == "ramfs" || type == "devtmpfs" || type == "hugetlbfs") return "memory";
  if (type.starts_with("fuse")) return "FUSE";
  return "other";
}

/// upperdir and lowerdir tell one container's root from another's.
std::string overlay_layers(const std::string& options) {
  std::string layers;
  std::istringstream parts(options);
  for (std::string part; std::getline(parts, part, ',');)
    if (part.starts_with("upperdir=") || part.starts_with("lowerdir=")) layers += "," + part;
  return label_of(layers);
}

/// btrfs gives its files device numbers that no block device has, and names the block device in the mount table.
std::optional<Disk> block_device_named(const std::string& source, const std::string& sysfs) {
  struct stat status {};
  if (!source.starts_with("/dev/") || ::stat(source.c_str(), &status) != 0 || !S_ISBLK(status.st_mode))
    return std::nullopt;
  return block_device(major(status.st_rdev), minor(status.st_rdev), sysfs);
}

}  // namespace

Disk disk_of_device(std::uint64_t device, const std::string& real_path, const DiskSources& sources) {
  const unsigned major_number = major(device);
  const unsigned minor_number = minor(device);
  const auto mount = mount_of(fmt::format("{}:{}", major_number, minor_number), real_path, sources.mountinfo);
  auto disk = block_device(major_number, minor_number, sources.sysfs);
  if (!disk && mount) disk = block_device_named(mount->source, sources.sysfs);
  if (disk) {
    disk->mount_point = mount ? mount->point : "";
    disk->file_system = mount ? mount->type : "";
    return *disk;
  }
  if (!mount)
    return {fmt::format("device:{}:{}", major_number, minor_number),
            fmt::format("{}:{}", major_number, minor_number),
            "other",
            "",
            "",
            ""};
  Disk other;
  other.name = mount->type;
  other.kind = kind_of_file_system(mount->type);
  other.model = other.kind == "network" ? mount->source : "";
  other.mount_point = mount->point;
  other.file_system = mount->type;
  const std::string what = other.kind == "overlay"  ? overlay_layers(mount->options)
                           : other.kind == "memory" ? mount->point
                                                    : mount->source;
  other.id = fmt::format("{}:{}", mount->type, what);
  return other;
}

base::Result<Disk> disk_of(const std::string& path, const DiskSources& sources) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return file_error("cannot look at", path, errno);
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  return disk_of_device(status.st_dev, error ? path : real.string(), sources);
}

}  // namespace thaw::node
