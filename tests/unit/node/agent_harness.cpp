#include "unit/node/agent_harness.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include "base/endpoint.h"
#include "net/dial.h"
#include "node/sandbox/cgroup.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"
#include "node/sandbox/mounts.h"
#include "node/sandbox/runc.h"
#include "node/sandbox/runsc_info.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMiB = 1ULL << 20;

template <typename T>
void put(std::ofstream& file, T value) {
  file.write(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::ofstream& file, const std::string& text) {
  put<std::uint64_t>(file, text.size());
  file << text;
}

std::string label(const std::string& data_dir) { return label_of(fs::canonical(data_dir).string()); }

void list(std::vector<std::string>& found, const std::string& directory) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) found.push_back(entry.path());
}

}  // namespace

bool eventually(const std::function<bool()>& condition) {
  const auto until = now() + kPatience;
  while (now() < until) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return condition();
}

TempDir::TempDir() {
  std::string pattern = (fs::temp_directory_path() / "thaw-node-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) std::abort();
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string cannot_sandbox(spec::SandboxKind kind) {
  if (::geteuid() != 0) return "sandboxes need root";
  if (kind == spec::SandboxKind::runsc) {
    const auto runsc = find_runsc();
    return runsc.ok() ? std::string() : runsc.error().message;
  }
  if (auto runc = find_runc(); !runc.ok()) return runc.error().message;
  return {};
}

std::string write_tiny_model(const std::string& directory) {
  const std::string path = directory + "/tiny.gguf";
  std::ofstream file(path, std::ios::binary);
  file << "GGUF";
  put<std::uint32_t>(file, 3);
  put<std::uint64_t>(file, 0);  // tensors
  put<std::uint64_t>(file, 2);  // keys
  put_text(file, "general.architecture");
  put<std::uint32_t>(file, 8);  // string
  put_text(file, "llama");
  put_text(file, "llama.context_length");
  put<std::uint32_t>(file, 4);  // u32
  put<std::uint32_t>(file, 512);
  file << std::string(64, '\0');
  return path;
}

std::vector<std::string> traces_of(const std::string& data_dir) {
  std::vector<std::string> found;
  const std::string home = "/run/thaw/" + label(data_dir);
  if (auto host = CgroupHost::detect(); host.ok())
    for (const std::string& name : (*host)->children(label(data_dir))) found.push_back("cgroup " + name);
  list(found, home + "/boxes");
  list(found, home + "/runc");
  for (const std::string& point : mounts_below(home)) found.push_back("mount " + point);
  for (const std::string& point : mounts_below(data_dir)) found.push_back("mount " + point);
  return found;
}

std::vector<pid_t> sandboxed_pids(const std::string& data_dir) {
  auto host = CgroupHost::detect();
  if (!host.ok()) return {};
  return Cgroup(*host, (*host)->parent_path(label(data_dir))).pids();
}

void Events::push(wire::NodeEvent event) {
  {
    const std::lock_guard lock(mutex_);
    all_.push_back(std::move(event));
  }
  changed_.notify_all();
}

TestNode::TestNode(spec::SandboxKind sandbox, std::uint32_t pool) : data_dir_(directory_.path() + "/data") {
  const std::string models = directory_.path() + "/models";
  fs::create_directory(models);
  model_path_ = write_tiny_model(models);
  config_.node = base::NodeName("test");
  config_.data_dir = data_dir_;
  config_.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
  config_.settings.sandbox = sandbox;
  config_.settings.pool = pool;
  config_.settings.stop_grace = base::Seconds(1);
  config_.cpu_memory_bytes = 1024 * kMiB;
  config_.engine_paths["llama.cpp"] = std::string(THAW_BINARY_DIR) + "/fake-engine";
}

base::Status TestNode::open() {
  agent_ = std::make_unique<Agent>(config_, [this](wire::NodeEvent event) { events_.push(std::move(event)); });
  auto hello = agent_->open();
  if (hello.ok()) {
    hello_ = *std::move(hello);
    return {};
  }
  agent_.reset();
  return hello.error();
}

wire::StartInstance TestNode::start_command(std::vector<std::string> engine_args) {
  wire::StartInstance command;
  command.instance = base::InstanceId(++started_);
  command.model.name = base::ModelName("tiny");
  command.model.source.path = model_path_;
  command.model.args = std::move(engine_args);
  command.model.resources.device_memory_bytes = 64 * kMiB;
  command.device = base::DeviceId("cpu0");
  command.deadline = kPatience;
  return command;
}

base::InstanceId TestNode::start_ready(std::vector<std::string> engine_args) {
  const wire::StartInstance command = start_command(std::move(engine_args));
  agent_->submit(command);
  if (!events_.wait<wire::InstanceReady>(command.instance)) {
    const auto down = events_.wait<wire::InstanceDown>(command.instance);
    ADD_FAILURE() << "instance is not ready: " << (down ? down->detail + "\n" + down->log_tail : "no event");
  }
  return command.instance;
}

std::string http_get(const std::string& address, const std::string& path) {
  return http_send(address, "GET " + path + " HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n");
}

std::string http_send(const std::string& address, const std::string& request) {
  const auto endpoint = base::parse_endpoint(address);
  if (!endpoint.ok()) return {};
  const auto dialer = net::Dialer::open(*endpoint);
  if (!dialer.ok()) return {};
  const auto connected = dialer->connect();
  if (!connected.ok()) return {};
  const Fd fd(*connected);
  pollfd writable{fd.get(), POLLOUT, 0};
  ::poll(&writable, 1, 10'000);
  ::fcntl(fd.get(), F_SETFL, 0);  // blocking from here on
  if (::write(fd.get(), request.data(), request.size()) != static_cast<ssize_t>(request.size())) return {};
  std::string answer;
  std::array<char, 4096> chunk{};
  for (ssize_t got = 0; (got = ::read(fd.get(), chunk.data(), chunk.size())) > 0;) answer.append(chunk.data(), static_cast<std::size_t>(got));
  return answer;
}

}  // namespace thaw::node::test
