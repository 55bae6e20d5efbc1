#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "node/weights/disk_calibration.h"
#include "node/weights/settings_search.h"
#include "unit/node/weights_files.h"

namespace thaw::node::test {
namespace {

using base::ErrorKind;
constexpr std::uint64_t kMiB = 1ULL << 20;

/// A disk that is as fast as `rate` says, give or take `noise`, in a time of its own.
struct MadeUpDisk {
  std::function<double(const ReadSettings&)> rate;
  double noise = 0;
  base::Duration sample_takes = base::Millis(20);
  unsigned samples = 0;
  std::uint64_t random = 42;
  base::TimePoint time{};

  base::Result<FoundSettings> search(base::Duration budget = base::Millis(1500)) {
    return search_settings({[this](const ReadSettings& settings) -> base::Result<double> {
                              ++samples;
                              time += sample_takes;
                              random = random * 6364136223846793005ULL + 1442695040888963407ULL;
                              const double wobble =
                                  static_cast<double>(random >> 33U) / static_cast<double>(1ULL << 31U) * 2 - 1;
                              return rate(settings) * (1 + noise * wobble);
                            },
                            [this] { return time; }, budget});
  }
};

TEST(SettingsSearch, CandidatesAreValidAndGoFromLittleMemoryToMuch) {
  const auto all = settings_candidates();
  ASSERT_FALSE(all.empty());
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_TRUE(all[i].in_range());
    EXPECT_LE(all[i].memory_bytes(), kMaxSearchedMemoryBytes);
    EXPECT_TRUE(i == 0 || all[i].memory_bytes() >= all[i - 1].memory_bytes());
  }
  EXPECT_NE(std::find(all.begin(), all.end(), ReadSettings{}), all.end()) << "the defaults are among them";
}

TEST(SettingsSearch, OfEquallyGoodOnesTheDefaults) {
  MadeUpDisk disk{[](const ReadSettings&) { return 2e9; }};
  const auto found = disk.search();
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->settings, ReadSettings{});
  EXPECT_DOUBLE_EQ(found->bytes_per_s, 2e9);
}

TEST(SettingsSearch, AsMuchMemoryAsTheDiskNeeds) {
  // Bandwidth times latency: 8 MiB must be under way.
  MadeUpDisk disk{
      [](const ReadSettings& s) { return 1e10 * std::min(1.0, static_cast<double>(s.memory_bytes()) / (8.0 * kMiB)); }};
  EXPECT_EQ(disk.search()->settings.memory_bytes(), 8 * kMiB);
  // A processor's cache: more is worse.
  disk.rate = [](const ReadSettings& s) {
    return s.memory_bytes() > 4 * kMiB ? 2e9 : s.memory_bytes() < 4 * kMiB ? 1e9 : 3e9;
  };
  EXPECT_EQ(disk.search()->settings.memory_bytes(), 4 * kMiB);
}

TEST(SettingsSearch, InSpiteOfNoise) {
  const auto rate = [](const ReadSettings& s) {
    return 3e9 * std::min(1.0, static_cast<double>(s.memory_bytes()) / (8.0 * kMiB)) * (s.chunk_bytes < kMiB ? 0.8 : 1);
  };
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    MadeUpDisk disk{rate, 0.15};
    disk.random = seed;
    const auto found = disk.search();
    ASSERT_TRUE(found.ok());
    EXPECT_GE(rate(found->settings), 0.9 * 3e9) << "seed " << seed;
  }
}

TEST(SettingsSearch, KeepsToItsTimeOnASlowDisk) {
  MadeUpDisk disk{[](const ReadSettings&) { return 1e7; }};
  disk.sample_takes = base::Seconds(1);
  ASSERT_TRUE(disk.search(base::Millis(1500)).ok());
  EXPECT_LE(disk.samples, 3U);
  disk.samples = 0;
  EXPECT_TRUE(disk.search(base::Millis(0)).ok());
  EXPECT_GE(disk.samples, 1U);
}

TEST(SettingsSearch, ADisksErrorEndsIt) {
  unsigned samples = 0;
  const auto found = search_settings({[&samples](const ReadSettings&) -> base::Result<double> {
                                        if (++samples == 7) return base::Error{ErrorKind::io, "bad sector"};
                                        return 1e9;
                                      },
                                      [] { return base::TimePoint{}; }, base::Millis(100)});
  EXPECT_EQ(found.error().message, "bad sector");
}

class Calibration : public ::testing::Test {
 protected:
  static CalibrationLimits quick() {
    CalibrationLimits limits;
    limits.search = base::Millis(60);
    limits.file_bytes = 8 * kMiB;
    return limits;
  }
  std::vector<std::string> names() {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "."))
      found.push_back(entry.path().filename());
    return found;
  }
  void write_store(const std::string& text) { std::ofstream(calibrations_path(directory_ / ".")) << text; }

  DiskDirectory directory_;
};

TEST_F(Calibration, OfADirectoryLeavesNothingBehind) {
  const auto calibration = calibrate_disk(directory_ / ".", quick());
  ASSERT_TRUE(calibration.ok()) << calibration.error().message;
  EXPECT_TRUE(calibration->settings.in_range());
  EXPECT_GT(calibration->bytes_per_s, 0);
  EXPECT_GT(calibration->unix_s, 1'700'000'000);
  EXPECT_EQ(calibration->disk.id, disk_of(directory_ / ".")->id);
  EXPECT_TRUE(names().empty());
}

TEST_F(Calibration, ReadsABigFileThatIsThere) {
  const std::string file = write_weights(directory_ / "model.gguf", 9 * kMiB + 100);
  const auto before = std::filesystem::last_write_time(file);
  const auto calibration = calibrate_disk(file, quick());
  ASSERT_TRUE(calibration.ok()) << calibration.error().message;
  EXPECT_GT(calibration->bytes_per_s, 0);
  EXPECT_EQ(std::filesystem::last_write_time(file), before);
  EXPECT_EQ(names(), std::vector<std::string>{"model.gguf"});
}

TEST_F(Calibration, MeasuresBesideASmallFile) {
  const std::string file = write_weights(directory_ / "small.gguf", 100);
  EXPECT_TRUE(calibrate_disk(file, quick()).ok());
  EXPECT_EQ(names(), std::vector<std::string>{"small.gguf"});
}

TEST_F(Calibration, SaysWhenItReadsByThreads) {
  CalibrationLimits limits = quick();
  limits.with_ring = false;
  const auto calibration = calibrate_disk(directory_ / ".", limits);
  ASSERT_TRUE(calibration.ok());
  EXPECT_FALSE(calibration->threads_why.empty());
}

TEST_F(Calibration, WhatRefusesDirectReadsKeepsTheDefaults) {
  const std::string file = "/sys/kernel/btf/vmlinux";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "the kernel has no " << file;
  CalibrationLimits limits = quick();
  limits.file_bytes = kMiB;
  const auto calibration = calibrate_disk(file, limits);
  ASSERT_TRUE(calibration.ok()) << calibration.error().message;
  EXPECT_EQ(calibration->buffered_why, "sysfs refuses direct I/O");
  EXPECT_EQ(calibration->settings, ReadSettings{});
  EXPECT_GT(calibration->bytes_per_s, 0);
}

TEST_F(Calibration, WhatCannotBeMeasuredIsNamed) {
  EXPECT_EQ(calibrate_disk(directory_ / "missing", quick()).error().kind, ErrorKind::not_found);
  CalibrationLimits huge = quick();
  huge.file_bytes = 1ULL << 60U;
  const auto no_room = calibrate_disk(directory_ / ".", huge);
  EXPECT_EQ(no_room.error().kind, ErrorKind::exhausted);
  EXPECT_NE(no_room.error().message.find("free some space"), std::string::npos);
  const auto no_file = calibrate_disk("/proc/self", quick());
  ASSERT_FALSE(no_file.ok());
  EXPECT_NE(no_file.error().message.find("/proc/self"), std::string::npos);
}

DiskCalibration example(const std::string& id) {
  DiskCalibration calibration;
  calibration.disk.id = id;
  calibration.disk.name = "nvme0n1";
  calibration.disk.kind = "NVMe";
  calibration.disk.model = "a \"quoted\" model";
  calibration.settings = {512 << 10, 16};
  calibration.bytes_per_s = 7e9;
  calibration.threads_why = "forbidden";
  calibration.unix_s = 1'800'000'000;
  return calibration;
}

TEST_F(Calibration, IsStoredForEachDisk) {
  const std::string data_dir = directory_ / "not/yet/there";
  EXPECT_TRUE(stored_calibrations(data_dir)->empty());
  ASSERT_TRUE(store_calibration(data_dir, example("a")).ok());
  ASSERT_TRUE(store_calibration(data_dir, example("b")).ok());
  DiskCalibration again = example("a");
  again.settings = {4096, 1};
  again.buffered_why = "x";
  ASSERT_TRUE(store_calibration(data_dir, again).ok());

  const auto stored = stored_calibrations(data_dir);
  ASSERT_TRUE(stored.ok()) << stored.error().message;
  ASSERT_EQ(stored->size(), 2U);
  EXPECT_EQ(stored->at(0).disk.id, "a");
  EXPECT_EQ(stored->at(0).settings, (ReadSettings{4096, 1}));
  EXPECT_EQ(stored->at(0).buffered_why, "x");
  const DiskCalibration& other = stored->at(1);
  EXPECT_EQ(other.disk.id, "b");
  EXPECT_EQ(other.disk.name, "nvme0n1");
  EXPECT_EQ(other.disk.kind, "NVMe");
  EXPECT_EQ(other.disk.model, "a \"quoted\" model");
  EXPECT_EQ(other.settings, (ReadSettings{512 << 10, 16}));
  EXPECT_EQ(other.bytes_per_s, 7e9);
  EXPECT_EQ(other.threads_why, "forbidden");
  EXPECT_EQ(other.unix_s, 1'800'000'000);
}

TEST_F(Calibration, IsFoundForAPathOnThatDisk) {
  const std::string data_dir = directory_ / ".";
  const std::string file = write_weights(directory_ / "model", 1);
  EXPECT_EQ(stored_read_settings(data_dir, file), ReadSettings{}) << "never measured";
  ASSERT_TRUE(store_calibration(data_dir, example("another disk")).ok());
  EXPECT_EQ(stored_read_settings(data_dir, file), ReadSettings{}) << "another disk's";
  ASSERT_TRUE(store_calibration(data_dir, example(disk_of(file)->id)).ok());
  EXPECT_EQ(stored_read_settings(data_dir, file), (ReadSettings{512 << 10, 16}));
  EXPECT_EQ(stored_calibration(data_dir, file)->bytes_per_s, 7e9);
  EXPECT_EQ(stored_read_settings(data_dir, directory_ / "missing"), ReadSettings{});
}

TEST_F(Calibration, WhatCannotBeUnderstoodIsIgnoredAndReplaced) {
  const std::string data_dir = directory_ / ".";
  const std::string file = write_weights(directory_ / "model", 1);
  const std::string id = disk_of(file)->id;
  ASSERT_TRUE(store_calibration(data_dir, example(id)).ok());
  std::ifstream stream(calibrations_path(data_dir));
  const std::string good{std::istreambuf_iterator<char>(stream), {}};
  const auto with = [&good](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  for (const std::string& bad : {std::string(), std::string("{"), std::string("[]"), good.substr(0, good.size() / 2),
                                 with("\"version\":1", "\"version\":2"), with("524288", "524287"),
                                 with("\"depth\":16", "\"depth\":0"), with("\"depth\":16", "\"depth\":4294967297"),
                                 with("\"depth\":16", "\"depth\":\"16\""), with("\"disks\":", "\"disc\":")}) {
    write_store(bad);
    EXPECT_EQ(stored_calibrations(data_dir).error().kind, ErrorKind::invalid) << bad;
    EXPECT_EQ(stored_read_settings(data_dir, file), ReadSettings{}) << bad;
  }
  ASSERT_TRUE(store_calibration(data_dir, example(id)).ok());
  EXPECT_EQ(stored_read_settings(data_dir, file), (ReadSettings{512 << 10, 16}));
}

}  // namespace
}  // namespace thaw::node::test
