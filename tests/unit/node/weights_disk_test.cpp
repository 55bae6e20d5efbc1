#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fstream>

#include "node/weights/disk.h"
#include "unit/node/weights_files.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

/// A made-up /sys and mount table.
class DiskNames : public ::testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    const fs::path whole = directory_ / path;
    fs::create_directories(whole.parent_path());
    std::ofstream(whole) << text;
  }
  /// Device `number` ("259:1") lies at sys/devices/`path`.
  void device(const std::string& number, const std::string& path,
              const std::map<std::string, std::string>& attributes) {
    fs::create_directories(directory_ / ("sys/devices/" + path));
    fs::create_directories(directory_ / "sys/dev/block");
    fs::create_symlink("../../devices/" + path, directory_ / ("sys/dev/block/" + number));
    for (const auto& [name, text] : attributes) write("sys/devices/" + path + "/" + name, text + "\n");
  }
  Disk disk(unsigned major_number, unsigned minor_number, const std::string& path) {
    write("mountinfo", mounts_);
    return disk_of_device(makedev(major_number, minor_number), path, {directory_ / "sys", directory_ / "mountinfo"});
  }

  DiskDirectory directory_;
  std::string mounts_;
};

TEST_F(DiskNames, PartitionsOfADiskAreThatDisk) {
  device("259:0", "nvme0n1", {{"wwid", "eui.0025385"}, {"size", "1000"}, {"device/model", "Fast 4TB  "}});
  device("259:1", "nvme0n1/nvme0n1p1", {{"partition", "1"}});
  device("259:2", "nvme0n1/nvme0n1p2", {{"partition", "2"}});
  mounts_ =
      "20 1 259:1 / / rw - ext4 /dev/nvme0n1p1 rw\n"
      "21 20 259:2 / /srv/my\\040models rw,noatime shared:1 - xfs /dev/nvme0n1p2 rw\n";
  const Disk root = disk(259, 1, "/etc/passwd");
  const Disk models = disk(259, 2, "/srv/my models/a.gguf");
  EXPECT_EQ(root.id, models.id);
  EXPECT_EQ(models.name, "nvme0n1");
  EXPECT_EQ(models.kind, "NVMe");
  EXPECT_EQ(models.model, "Fast 4TB");
  EXPECT_EQ(models.mount_point, "/srv/my models");
  EXPECT_EQ(models.file_system, "xfs");
  EXPECT_EQ(root.mount_point, "/");
  EXPECT_EQ(root.file_system, "ext4");
}

TEST_F(DiskNames, TheSerialNumberCountsAndNotTheName) {
  device("8:0", "sda", {{"device/wwid", "naa.5000"}, {"size", "1000"}, {"queue/rotational", "1"}});
  device("8:16", "sdb", {{"device/wwid", "naa.5000"}, {"size", "1000"}, {"queue/rotational", "1"}});
  device("8:32", "sdc", {{"device/wwid", "naa.6000"}, {"size", "1000"}, {"queue/rotational", "0"}});
  EXPECT_EQ(disk(8, 0, "/a").id, disk(8, 16, "/a").id) << "the same disk after a boot";
  EXPECT_NE(disk(8, 0, "/a").id, disk(8, 32, "/a").id);
  EXPECT_EQ(disk(8, 0, "/a").kind, "hard disk");
  EXPECT_EQ(disk(8, 32, "/a").kind, "SSD");
}

TEST_F(DiskNames, VirtualDisksWithoutANumberAreToldApartByNameAndSize) {
  device("254:0", "vda", {{"size", "1000"}, {"serial", ""}});
  device("254:16", "vdb", {{"size", "1000"}});
  device("254:32", "vdc", {{"size", "2000"}, {"serial", "same"}});
  device("254:48", "vdd", {{"size", "3000"}, {"serial", "same"}});
  EXPECT_EQ(disk(254, 0, "/a").kind, "virtio");
  EXPECT_NE(disk(254, 0, "/a").id, disk(254, 16, "/a").id);
  EXPECT_NE(disk(254, 32, "/a").id, disk(254, 48, "/a").id);
}

TEST_F(DiskNames, WhatIsMadeOfDisksIsNamedAsWhatItIs) {
  device("253:0", "dm-0", {{"dm/name", "vg-models"}, {"dm/uuid", "LVM-abc"}, {"size", "1"}});
  device("9:0", "md0", {{"md/uuid", "1234"}, {"size", "1"}});
  device("7:3", "loop3", {{"loop/backing_file", "/srv/image.ext4"}, {"size", "1"}});
  EXPECT_EQ(disk(253, 0, "/a").name, "vg-models");
  EXPECT_EQ(disk(253, 0, "/a").kind, "device mapper");
  EXPECT_EQ(disk(9, 0, "/a").kind, "RAID");
  const Disk loop = disk(7, 3, "/a");
  EXPECT_EQ(loop.kind, "loop");
  EXPECT_EQ(loop.model, "/srv/image.ext4");
  EXPECT_NE(loop.id.find("/srv/image.ext4"), std::string::npos);
}

TEST_F(DiskNames, WhatLiesOnNoDiskIsNamedAfterItsFileSystem) {
  mounts_ =
      "1 0 0:30 / / rw - overlay overlay rw,lowerdir=/l/1:/l/2,upperdir=/u/1,workdir=/w\n"
      "2 1 0:40 / /models rw - nfs4 server:/export rw\n"
      "3 1 0:50 / /dev/shm rw - tmpfs tmpfs rw\n"
      "4 1 0:60 / /strange rw - zfs tank/models rw\n"
      "5 1 0:70 / /sshfs rw - fuse.sshfs host: rw\n"
      "6 1 0:80 / /fuse rw - fuse.other x rw\n";
  const Disk nfs = disk(0, 40, "/models/a.gguf");
  EXPECT_EQ(nfs.kind, "network");
  EXPECT_EQ(nfs.name, "nfs4");
  EXPECT_EQ(nfs.model, "server:/export");
  EXPECT_EQ(nfs.mount_point, "/models");
  EXPECT_EQ(disk(0, 30, "/etc").kind, "overlay");
  EXPECT_EQ(disk(0, 50, "/dev/shm/x").kind, "memory");
  EXPECT_EQ(disk(0, 60, "/strange").kind, "other");
  EXPECT_EQ(disk(0, 70, "/sshfs").kind, "network");
  EXPECT_EQ(disk(0, 80, "/fuse").kind, "FUSE");
  EXPECT_EQ(disk(0, 99, "/modelsandmore").kind, "overlay") << "not below /models; its device in no table";

  const std::string id = disk(0, 30, "/etc").id;
  mounts_ = "1 0 0:31 / / rw - overlay overlay rw,lowerdir=/l/1:/l/2,upperdir=/u/2,workdir=/w\n";
  EXPECT_NE(disk(0, 31, "/etc").id, id) << "another container";
  mounts_ = "";
  EXPECT_EQ(disk(0, 31, "/etc").name, "0:31") << "no mount table";
  EXPECT_FALSE(disk(0, 31, "/etc").id.empty());
}

TEST_F(DiskNames, ADamagedMountTableDoesNoHarm) {
  mounts_ = "garbage\n1 2\n - \n1 0 0:30 / / rw - \n1 0 0:30 / /x\\04 rw - ext4 y\n\n";
  EXPECT_FALSE(disk(0, 30, "/x").id.empty());
}

TEST_F(DiskNames, OfThisMachine) {
  const std::string file = write_weights(directory_ / "a", 1);
  const auto here = disk_of(file);
  ASSERT_TRUE(here.ok()) << here.error().message;
  EXPECT_FALSE(here->id.empty());
  EXPECT_FALSE(here->name.empty());
  EXPECT_EQ(here->id, disk_of(directory_ / ".")->id);
  EXPECT_EQ(disk_of("/proc/self/fd/0/none").error().kind, base::ErrorKind::not_found);
  EXPECT_EQ(disk_of(directory_ / "missing").error().kind, base::ErrorKind::not_found);
  EXPECT_NE(disk_of("/proc")->id, here->id);
}

}  // namespace
}  // namespace thaw::node::test
