/// The adapters for engines other than llama.cpp: their command lines, their environment, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include <sys/stat.h>

#include "node/agent.h"
#include "node/engine/engine.h"
#include "node/engine/program.h"
#include "node/engine/sleep_api.h"
#include "unit/node/emulated_driver.h"
#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryDirectory;
using testing::write_file;

const LaunchPaths kRunc{"/thaw/run/engine.sock", "/thaw/model", "/thaw/engine", "", "127.0.0.1", 8080};

class OtherEngines : public ::testing::Test {
 protected:
  OtherEngines() {
    for (const char* name : {"model.safetensors", "config.json", ".hidden"}) write_file(directory_ / ("m/" + std::string(name)), "x");
    write_file(directory_ / "m/1_Pooling/config.json", "{}");
    make(directory_ / "engine/serve");
    start_.model.name = base::ModelName("story");
    start_.model.source.path = directory_ / "m";
    start_.model.scaling.target_concurrency = 3;
    start_.model.resources.device_memory_bytes = 1ULL << 30;
    start_.device = base::DeviceId("cpu0");
  }

  static void make(const std::string& path, const std::string& text =
                                                "\x7f"
                                                "ELF") {
    write_file(path, text);
    ::chmod(path.c_str(), 0755);
  }
  EngineLaunch plan(spec::EngineKind engine, const std::string& program, const LaunchPaths& paths = kRunc) {
    start_.model.engine = engine;
    const auto launch = plan_launch(start_, program, paths);
    EXPECT_TRUE(launch.ok()) << launch.error().message;
    return launch.ok() ? *launch : EngineLaunch{};
  }
  std::string refusal(spec::EngineKind engine, std::vector<std::string> args) {
    start_.model.engine = engine;
    start_.model.args = std::move(args);
    const auto checked = check_arguments(start_.model);
    return checked.ok() ? "" : checked.error().message;
  }
  static std::string line(const EngineLaunch& launch) {
    std::string out;
    for (const std::string& word : launch.argv) out += (out.empty() ? "" : " ") + word;
    return out;
  }

  TemporaryDirectory directory_;
  wire::StartInstance start_;
};

TEST_F(OtherEngines, VllmListensOnItsSocketAndServesTheDirectory) {
  start_.model.args = {"--max-model-len", "4096"};
  const EngineLaunch launch = plan(spec::EngineKind::vllm, directory_ / "engine/serve");
  EXPECT_EQ(line(launch),
            "/thaw/engine/serve serve /thaw/model --served-model-name story --uds /thaw/run/engine.sock --max-num-seqs "
            "3 --max-model-len 4096");
  EXPECT_FALSE(launch.tcp);
  EXPECT_EQ(launch.engine_dir, fs::canonical(directory_ / "engine").string());
  EXPECT_EQ(launch.model_files, (std::vector<std::string>{directory_ / "m/1_Pooling", directory_ / "m/config.json",
                                                          directory_ / "m/model.safetensors"}));
  EXPECT_EQ(launch.env.at("CUDA_VISIBLE_DEVICES"), "");
  EXPECT_EQ(launch.env.at("HF_HUB_OFFLINE"), "1");
  EXPECT_EQ(launch.env.count("VLLM_SERVER_DEV_MODE"), 0U) << "nothing to be open where it does not sleep";
}

TEST_F(OtherEngines, VllmListensOnTcpWhereThereAreNoSockets) {
  LaunchPaths gvisor = kRunc;
  gvisor.socket.clear();
  gvisor.address = "169.254.77.2";
  const EngineLaunch launch = plan(spec::EngineKind::vllm, directory_ / "engine/serve", gvisor);
  EXPECT_NE(line(launch).find("--host 169.254.77.2 --port 8080"), std::string::npos) << line(launch);
  EXPECT_TRUE(launch.tcp);
}

TEST_F(OtherEngines, SglangListensOnTcp) {
  const EngineLaunch launch = plan(spec::EngineKind::sglang, directory_ / "engine/serve");
  EXPECT_EQ(line(launch),
            "/thaw/engine/serve --model-path /thaw/model --served-model-name story --host 127.0.0.1 --port 8080 "
            "--max-running-requests 3 --device cpu");
  EXPECT_TRUE(launch.tcp);
  EXPECT_EQ(launch.env.at("SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION"), "false");
}

TEST_F(OtherEngines, OnAGpuTheyAreGivenTheSpecsShareOfItAndSleep) {
  test::EmulatorSettings machine;
  machine.set("THAW_EMULATOR_MEMORY_MIB", "8192");
  const CudaLibraries libraries{test::emulated_library("libcuda.so.1"), test::emulated_library("libnvidia-ml.so.1")};
  start_.model.resources.device = spec::DeviceKind::cuda;
  start_.device = base::DeviceId("cuda0");
  const auto planned = [&](spec::EngineKind engine) {
    start_.model.engine = engine;
    const auto launch = plan_launch(start_, directory_ / "engine/serve", kRunc, libraries);
    EXPECT_TRUE(launch.ok()) << launch.error().message;
    return launch.ok() ? *launch : EngineLaunch{};
  };
  const EngineLaunch vllm = planned(spec::EngineKind::vllm);
  EXPECT_NE(line(vllm).find("--gpu-memory-utilization 0.1250 --enable-sleep-mode"), std::string::npos) << line(vllm);
  EXPECT_EQ(vllm.env.at("VLLM_SERVER_DEV_MODE"), "1");
  EXPECT_EQ(vllm.env.at("CUDA_VISIBLE_DEVICES"), "0");
  const EngineLaunch sglang = planned(spec::EngineKind::sglang);
  EXPECT_NE(line(sglang).find("--mem-fraction-static 0.10"), std::string::npos) << line(sglang);
  EXPECT_NE(line(sglang).find("--enable-memory-saver --enable-weights-cpu-backup"), std::string::npos) << line(sglang);
  EXPECT_EQ(line(vllm).find("tensor-parallel"), std::string::npos);
  machine.set("THAW_EMULATOR_DEVICES", "2");
  start_.model.resources.devices = 2;
  start_.devices = {base::DeviceId("cuda0"), base::DeviceId("cuda1")};
  const EngineLaunch pair = planned(spec::EngineKind::vllm);
  EXPECT_NE(line(pair).find("--gpu-memory-utilization 0.0625 --tensor-parallel-size 2"), std::string::npos) << line(pair);
  EXPECT_EQ(pair.env.at("CUDA_VISIBLE_DEVICES"), "0,1");
  EXPECT_NE(line(planned(spec::EngineKind::sglang)).find("--tp-size 2"), std::string::npos);
  EXPECT_NE(refusal(spec::EngineKind::vllm, {"-tp", "2"}).find("set spec.resources.devices"), std::string::npos);
  EXPECT_NE(refusal(spec::EngineKind::sglang, {"--tp", "2"}).find("set spec.resources.devices"), std::string::npos);
  start_.model.args.clear();
  start_.model.resources.devices = 1;
  start_.devices.clear();
  start_.model.standby.mode = spec::Mode::never;
  EXPECT_EQ(line(planned(spec::EngineKind::vllm)).find("sleep"), std::string::npos);
  const auto unseen =
      plan_launch(start_, directory_ / "engine/serve", kRunc, {"/no/libcuda.so", "/no/libnvidia-ml.so"});
  ASSERT_FALSE(unseen.ok());
  EXPECT_NE(unseen.error().message.find("install NVIDIA's libnvidia-ml.so.1"), std::string::npos)
      << unseen.error().message;
}

TEST_F(OtherEngines, SleepIsWhatTheSpecSays) {
  spec::ModelSpec& model = start_.model;
  EXPECT_EQ(sleep_api_of(model), SleepApi::none);
  model.engine = spec::EngineKind::vllm;
  EXPECT_EQ(sleep_api_of(model), SleepApi::none) << "vLLM cannot on a CPU";
  model.args = {"--enable_sleep_mode"};
  EXPECT_EQ(sleep_api_of(model), SleepApi::vllm);
  model.args.clear();
  model.resources.device = spec::DeviceKind::cuda;
  EXPECT_EQ(sleep_api_of(model), SleepApi::vllm);
  model.args = {"--no-enable-sleep-mode"};
  EXPECT_EQ(sleep_api_of(model), SleepApi::none);
  model.engine = spec::EngineKind::sglang;
  EXPECT_EQ(sleep_api_of(model), SleepApi::sglang);
  model.standby.mode = spec::Mode::never;
  EXPECT_EQ(sleep_api_of(model), SleepApi::none);
  model.engine = spec::EngineKind::command;
  EXPECT_EQ(sleep_api_of(model), SleepApi::none);
}

TEST_F(OtherEngines, ACommandIsFilledIn) {
  start_.model.command = {directory_ / "engine/serve",
                          "--model",
                          "{model}",
                          "--name={name}",
                          "--listen",
                          "{host}:{port}",
                          "-n",
                          "{concurrency}"};
  start_.model.args = {"--more", "{port}"};
  start_.model.source.path = directory_ / "m/model.safetensors";
  const EngineLaunch launch = plan(spec::EngineKind::command, directory_ / "engine/serve");
  EXPECT_EQ(line(launch),
            "/thaw/engine/serve --model /thaw/model/model.safetensors --name=story --listen 127.0.0.1:8080 -n 3 --more "
            "{port}");
  EXPECT_TRUE(launch.tcp);
  start_.model.command = {"sh", "{socket}"};
  EXPECT_FALSE(plan(spec::EngineKind::command, "/bin/sh").tcp);
  LaunchPaths gvisor = kRunc;
  gvisor.socket.clear();
  const auto refused = plan_launch(start_, "/bin/sh", gvisor);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("use {host} and {port}"), std::string::npos) << refused.error().message;
}

TEST_F(OtherEngines, ProgramsOfTheHostAreCalledAsTheyAreAndOthersShown) {
  const auto shell = place_program("/bin/sh", "/thaw/engine");
  ASSERT_TRUE(shell.ok());
  EXPECT_EQ(shell->mount_dir, "");
  EXPECT_TRUE(shell->argv.front().starts_with("/usr/"));
  fs::create_symlink(directory_ / "engine/serve", directory_ / "link");
  EXPECT_EQ(place_program(directory_ / "link", "/thaw/engine")->argv, std::vector<std::string>{"/thaw/engine/serve"});
  EXPECT_EQ(place_program(directory_ / "link", "")->argv,
            std::vector<std::string>{fs::canonical(directory_ / "engine/serve").string()});
  EXPECT_FALSE(place_program(directory_ / "gone", "/thaw/engine").ok());
}

TEST_F(OtherEngines, APythonEnvironmentIsShownWholeAndRunByItsInterpreter) {
  const std::string prefix = directory_ / "venv";
  write_file(prefix + "/pyvenv.cfg", "home = /usr/bin\n");
  make(prefix + "/bin/vllm", "#!/elsewhere/python\n");
  make(prefix + "/bin/tool");
  const auto broken = place_program(prefix + "/bin/vllm", "/thaw/engine");
  ASSERT_FALSE(broken.ok());
  EXPECT_NE(broken.error().message.find("no bin/python3"), std::string::npos) << broken.error().message;

  fs::create_symlink("/bin/sh", prefix + "/bin/python3");  // any program of the host's
  const auto script = place_program(prefix + "/bin/vllm", "/thaw/engine");
  ASSERT_TRUE(script.ok()) << script.error().message;
  EXPECT_EQ(script->argv, (std::vector<std::string>{"/thaw/engine/bin/python3", "/thaw/engine/bin/vllm"}));
  EXPECT_EQ(script->mount_dir, prefix);
  EXPECT_EQ(place_program(prefix + "/bin/tool", "/thaw/engine")->argv,
            std::vector<std::string>{"/thaw/engine/bin/tool"});
  fs::create_directories(directory_ / "bin");
  fs::create_symlink(prefix + "/bin/vllm", directory_ / "bin/vllm");  // as in a PATH directory
  EXPECT_EQ(place_program(directory_ / "bin/vllm", "/thaw/engine")->argv, script->argv);
  EXPECT_EQ(place_program(prefix + "/bin/vllm", "")->argv,
            (std::vector<std::string>{prefix + "/bin/python3", prefix + "/bin/vllm"}));
  const EngineLaunch sglang = plan(spec::EngineKind::sglang, prefix + "/bin/python3");
  EXPECT_TRUE(line(sglang).starts_with("/thaw/engine/bin/python3 -m sglang.launch_server --model-path /thaw/model"))
      << line(sglang);
  EXPECT_TRUE(sglang.env.at("PATH").starts_with("/thaw/engine/bin:"));

  make(directory_ / "uv/python3.12");
  fs::remove(prefix + "/bin/python3");
  fs::create_symlink(directory_ / "uv/python3.12", prefix + "/bin/python3");
  const auto elsewhere = place_program(prefix + "/bin/vllm", "/thaw/engine");
  ASSERT_FALSE(elsewhere.ok());
  EXPECT_NE(elsewhere.error().message.find("which a sandbox does not see"), std::string::npos)
      << elsewhere.error().message;
  EXPECT_TRUE(place_program(prefix + "/bin/vllm", "").ok()) << "without a sandbox everything is seen";
}

TEST_F(OtherEngines, RefuseWhatIsThawsToDecide) {
  const auto refuses = [&](spec::EngineKind engine, std::vector<std::string> args, const std::string& part) {
    const std::string said = refusal(engine, args);
    EXPECT_NE(said.find(part), std::string::npos) << args.front() << ": " << said;
  };
  using spec::EngineKind;
  refuses(EngineKind::vllm, {"--port", "1"}, "argument --port");
  refuses(EngineKind::vllm, {"--max_num_seqs=4"}, "set spec.scaling.targetConcurrency");
  refuses(EngineKind::vllm, {"--gpu-memory-utilization", "0.9"}, "set spec.resources.deviceMemory");
  refuses(EngineKind::vllm, {"-tp", "2"}, "set spec.resources.devices");
  refuses(EngineKind::vllm, {"--enable-sleep-mode", "--no-enable-sleep-mode"}, "leave one out");
  refuses(EngineKind::vllm, {"--chat-template"}, "lacks its value");
  refuses(EngineKind::vllm, {"--chat-template=t.jinja"}, "give an absolute path");
  refuses(EngineKind::sglang, {"--mem-fraction-static", "0.5"}, "set spec.resources.deviceMemory");
  refuses(EngineKind::sglang, {"--device", "xpu"}, "set spec.resources.device");
  EXPECT_EQ(refusal(EngineKind::vllm, {"--max-model-len", "8192", "--chat-template", "/t.jinja"}), "");
  start_.model.standby.weights = spec::SleepingWeights::disk;
  refuses(EngineKind::sglang, {"--x"}, "use host or auto");
  start_.model.env["VLLM_API_KEY"] = "k";
  refuses(EngineKind::vllm, {"--x"}, "variable VLLM_API_KEY");
}

TEST_F(OtherEngines, FilesThatArgumentsNameAreShownBesideTheModel) {
  write_file(directory_ / "t/chat.jinja", "{}");
  start_.model.args = {"--chat-template=" + (directory_ / "t/chat.jinja")};
  const EngineLaunch launch = plan(spec::EngineKind::vllm, directory_ / "engine/serve");
  EXPECT_EQ(launch.argv.back(), "--chat-template=/thaw/model/chat.jinja");
  EXPECT_EQ(launch.model_files.back(), directory_ / "t/chat.jinja");
  write_file(directory_ / "t/config.json", "{}");
  start_.model.args = {"--chat-template", directory_ / "t/config.json"};
  const auto same_name = plan_launch(start_, directory_ / "engine/serve", kRunc);
  ASSERT_FALSE(same_name.ok());
  EXPECT_NE(same_name.error().message.find("have the same name"), std::string::npos) << same_name.error().message;
}

TEST_F(OtherEngines, InspectionAsksForWhatCannotBeEstimated) {
  start_.model.engine = spec::EngineKind::command;
  start_.model.command = {"sh", "{port}"};
  for (const char* name : {"model.safetensors", "config.json"}) ::chmod((directory_ / ("m/" + std::string(name))).c_str(), 0644);
  fs::permissions(directory_ / "m/1_Pooling", fs::perms(0755));
  const auto facts = inspect_model(start_.model);
  ASSERT_TRUE(facts.ok()) << facts.error().message;
  EXPECT_EQ(facts->weights_bytes, 1U);
  EXPECT_EQ(facts->files.size(), 2U) << "a directory has no bytes to watch";
  EXPECT_EQ(facts->estimated_device_bytes, 1ULL << 30);
  start_.model.resources.device_memory_bytes.reset();
  const auto unknown = inspect_model(start_.model);
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("spec.resources.deviceMemory is missing"), std::string::npos)
      << unknown.error().message;
  start_.model.resources.device_memory_bytes = 1;
  start_.model.source.path = directory_ / "gone";
  EXPECT_EQ(inspect_model(start_.model).error().kind, base::ErrorKind::not_found);
  start_.model.source.path = directory_ / "m";
  start_.model.engine = spec::EngineKind::vllm;
  EXPECT_EQ(inspect_model(start_.model).error().kind, base::ErrorKind::invalid) << "model.safetensors is none";
}

}  // namespace
}  // namespace thaw::node
