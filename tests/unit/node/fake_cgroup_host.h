#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "node/sandbox/cgroup.h"
#include "node/sandbox/files.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {

/// Another host: its mount table and its control files as plain files.
class FakeHost {
 public:
  void add(const std::string& path, const std::string& content = "") {
    std::filesystem::create_directories(std::filesystem::path(root() + path).parent_path());
    std::ofstream(root() + path) << content;
  }
  void mount_v1(const std::string& name, const std::string& options) {
    std::filesystem::create_directories(root() + "/" + name);
    mountinfo_ += "30 20 0:25 / " + root() + "/" + name + " rw,nosuid shared:5 - cgroup cgroup rw," + options + "\n";
  }
  void mount_v2(const std::string& name, const std::string& controllers) {
    mountinfo_ += "31 20 0:26 / " + root() + name + " rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    add(name + "/cgroup.controllers", controllers + "\n");
    add(name + "/cgroup.subtree_control");
  }
  base::Result<std::shared_ptr<const CgroupHost>> detect(const std::string& own = "0::/\n") {
    add("/mountinfo", "20 1 8:1 / / rw,relatime - ext4 /dev/root rw\n" + mountinfo_);
    add("/self", own);
    return CgroupHost::detect(root() + "/mountinfo", root() + "/self");
  }
  [[nodiscard]] std::string text(const std::string& path) const {
    auto read = read_small_file(root() + path);
    return read.ok() ? *read : read.error().message;
  }
  [[nodiscard]] std::string root() const { return directory_.path(); }

 private:
  TempDir directory_;
  std::string mountinfo_;
};

inline void add_v1(FakeHost& host) {
  host.mount_v1("cpu,cpuacct", "cpu,cpuacct");
  host.mount_v1("memory", "memory");
  host.mount_v1("pids", "pids");
}

}  // namespace thaw::node::test
