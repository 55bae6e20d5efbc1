#include <gtest/gtest.h>

#include <algorithm>

#include <sys/stat.h>
#include <unistd.h>

#include "node/doctor_parts.h"
#include "node/sandbox/files.h"
#include "node/weights/disk_calibration.h"
#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::TemporaryDirectory;

class DoctorTest : public ::testing::Test {
 protected:
  DoctorTest() {
    config_.data_dir = directory_ / "not/yet/there";
    config_.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
  }
  TemporaryDirectory directory_;
  AgentConfig config_;
};

TEST_F(DoctorTest, EveryTopicIsThereAndEveryFaultHasARemedy) {
  const auto findings = examine_host(config_);
  for (const char* topic : {"kernel", "privileges", "cgroups", "user namespaces", "seccomp", "runc", "runsc", "engine llama.cpp", "cpu", "disk",
                            "direct I/O", "io_uring", "standby freezer", "criu"}) {
    EXPECT_EQ(std::count_if(findings.begin(), findings.end(), [&](const Finding& f) { return f.topic == topic; }), 1) << topic;
  }
  EXPECT_TRUE(std::any_of(findings.begin(), findings.end(), [](const Finding& f) { return f.topic.starts_with("cuda"); }));
  for (const Finding& finding : findings) {
    EXPECT_FALSE(finding.text.empty()) << finding.topic;
    EXPECT_EQ(finding.remedy.empty(), finding.level == Level::ok) << finding.topic << ": " << finding.text;
  }
}

TEST_F(DoctorTest, OtherEnginesAreLookedAtWhereTheyAreSet) {
  testing::write_file(directory_ / "venv/pyvenv.cfg", "");
  testing::write_file(directory_ / "venv/bin/vllm", "#!python\n");
  ::chmod((directory_ / "venv/bin/vllm").c_str(), 0755);
  config_.engine_paths = {{"vllm", directory_ / "venv/bin/vllm"}, {"sglang", "/no/such/python3"}};
  const auto findings = examine_other_engines(config_);
  ASSERT_EQ(findings.size(), 2U);
  EXPECT_EQ(findings[0].topic, "engine vllm");
  EXPECT_EQ(findings[0].level, Level::warning) << "it has no interpreter";
  EXPECT_NE(findings[1].text.find("/no/such/python3"), std::string::npos) << findings[1].text;
  EXPECT_NE(findings[1].remedy.find("engines.sglang"), std::string::npos);
  std::filesystem::create_symlink("/bin/sh", directory_ / "venv/bin/python3");
  EXPECT_EQ(examine_other_engines(config_)[0].level, Level::ok);
}

TEST_F(DoctorTest, LeavesNothingBehind) {
  const std::string ours = "/run/thaw/doctor-" + std::to_string(::getpid());
  (void)examine_host(config_);
  EXPECT_FALSE(std::filesystem::exists(ours));
  EXPECT_FALSE(std::filesystem::exists(config_.data_dir));
}

TEST_F(DoctorTest, SaysWhatWasMeasuredOfDisks) {
  const auto speed = [this](const std::vector<std::string>& model_files = {}) {
    std::vector<Finding> found;
    for (const Finding& finding : examine_disks(config_, model_files))
      if (finding.topic == "disk speed") found.push_back(finding);
    return found;
  };
  ASSERT_EQ(speed().size(), 1U);
  EXPECT_EQ(speed()[0].level, Level::note);
  EXPECT_NE(speed()[0].remedy.find("thaw doctor --disks"), std::string::npos);

  DiskCalibration calibration;
  calibration.disk = *disk_of(directory_.path());
  calibration.settings = {512 << 10, 16};
  calibration.bytes_per_s = 3.2e9;
  calibration.buffered_why = "ext4 refuses direct I/O";
  ASSERT_TRUE(store_calibration(config_.data_dir, calibration).ok());
  ASSERT_EQ(speed({directory_.path()}).size(), 1U) << "the same disk";
  EXPECT_EQ(speed()[0].level, Level::ok);
  EXPECT_NE(speed()[0].text.find("3.2 GB/s, read through the page cache (ext4 refuses direct I/O) in 512KiB x 16"), std::string::npos) << speed()[0].text;

  ASSERT_TRUE(write_file(calibrations_path(config_.data_dir), "{", 0644).ok());
  ASSERT_EQ(speed().size(), 2U);
  EXPECT_NE(speed()[0].text.find("ignored"), std::string::npos);
}

TEST_F(DoctorTest, SaysWhetherModelsCanBeReadDirectly) {
  const auto models = [this](const std::string& file) {
    for (const Finding& finding : examine_disks(config_, {file}))
      if (finding.topic == "models") return finding;
    return Finding{};
  };
  const std::string file = directory_ / "model.gguf";
  ASSERT_TRUE(write_file(file, "x", 0644).ok());
  EXPECT_EQ(models(file).topic, "models");
  EXPECT_EQ(models(directory_ / "missing").level, Level::warning);
  if (std::filesystem::exists("/sys/kernel/notes")) {
    EXPECT_EQ(models("/sys/kernel/notes").level, Level::note);
    EXPECT_NE(models("/sys/kernel/notes").text.find("no direct I/O on sysfs"), std::string::npos) << models("/sys/kernel/notes").text;
  }
}

TEST_F(DoctorTest, LooksAtTheNearestDirectoryThatExists) {
  EXPECT_EQ(existing_data_dir(config_), directory_.path());
  EXPECT_EQ(examine_disk(config_).level, Level::ok);
  EXPECT_NE(examine_disk(config_).text.find(directory_.path()), std::string::npos);
}

TEST_F(DoctorTest, AMissingEngineIsAFailureWithItsRemedy) {
  config_.engine_paths["llama.cpp"] = directory_ / "absent";
  const Finding finding = examine_engine(config_, {});
  EXPECT_EQ(finding.level, Level::failure);
  EXPECT_NE(finding.remedy.find("scripts/install-engine"), std::string::npos);
}

TEST_F(DoctorTest, AnEngineThatDoesNotRunIsAFailure) {
  config_.engine_paths["llama.cpp"] = "/bin/false";
  EXPECT_EQ(examine_engine(config_, {}).level, Level::failure);
  config_.engine_paths["llama.cpp"] = "/bin/true";
  EXPECT_EQ(examine_engine(config_, {}).level, Level::ok);
  CudaSurvey with_gpu;
  with_gpu.gpus.push_back({"GPU", "GPU-1", 1ULL << 34, 0});
  EXPECT_EQ(examine_engine(config_, with_gpu).level, Level::warning);
}

TEST_F(DoctorTest, ABudgetBeyondTheMachineIsAWarning) {
  config_.cpu_memory_bytes = 1ULL << 60;
  EXPECT_EQ(examine_memory(config_).level, Level::warning);
}

TEST_F(DoctorTest, TellsEachGpuAndWhatIsMissing) {
  CudaSurvey survey;
  survey.driver_version = "550.54.15";
  survey.cuda_version = "12.4";
  survey.gpus = {{"A", "GPU-1", 80ULL << 30, 0}, {"B", "GPU-2", 80ULL << 30, 1}};
  survey.problem = "cannot load libnvidia-ml.so.1";
  config_.cuda_reserve_bytes = 1ULL << 30;
  const auto findings = examine_cuda(config_, survey);
  ASSERT_GE(findings.size(), 3U);
  EXPECT_EQ(findings[1].topic, "cuda1");
  EXPECT_NE(findings[0].text.find("79GiB of 80GiB"), std::string::npos) << findings[0].text;
  EXPECT_EQ(findings[2].topic, "nvml");
  EXPECT_EQ(findings[2].level, Level::warning);
}

}  // namespace
}  // namespace thaw::node
