#include "unit/node/tier_rig.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "node/engine/engine.h"
#include "node/sandbox/cgroup.h"
#include "node/sandbox/pipes.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kFakeWeights_bytes = 8ULL << 20;

/// Of one line "name value" of a file.
std::uint64_t number_in(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string key;
  for (std::uint64_t value = 0; file >> key >> value;)
    if (key == name) return value;
  return 0;
}

std::uint64_t only_number_in(const std::string& path) {
  std::uint64_t value = 0;
  std::ifstream(path) >> value;
  return value;
}

}  // namespace

EngineRig::EngineRig(std::vector<std::string> argv, const std::string& model) : argv_(std::move(argv)) {
  static std::atomic<int> made{0};
  home_.label = "test-tier-" + std::to_string(::getpid()) + "-" + std::to_string(++made);
  home_.directory = directory_ / "boxes";
  home_.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
  if (auto host = CgroupHost::detect(); host.ok()) home_.cgroups = *host;
  model_path_ = directory_ / "weights.gguf";
  if (!model.empty()) {
    fs::copy_file(model, model_path_);
    // A page that is not on the disk yet cannot leave memory.
    ::fsync(Fd(::open(model_path_.c_str(), O_RDONLY | O_CLOEXEC)).get());
  }
  if (model.empty()) write_weights(model_path_, kFakeWeights_bytes);
  subject_.instance = base::InstanceId(1);
  subject_.model.name = base::ModelName("tiny");
  subject_.model.source.path = model_path_;
  subject_.model.resources.device_memory_bytes = 64ULL << 20;
  subject_.device = base::DeviceId("cpu0");
  subject_.weight_files = {model_path_};
}

EngineRig::~EngineRig() {
  sandbox_.reset();
  if (home_.cgroups) home_.cgroups->remove_parent(home_.label);
}

std::string EngineRig::cannot() const {
  if (argv_.empty()) return "llama-server or its model is not there";
  if (::geteuid() != 0) return "control groups need root";
  return home_.cgroups ? "" : "no control groups here";
}

void EngineRig::start() {
  sandbox_.reset();
  ASSERT_TRUE(home_.cgroups->prepare_parent(home_.label).ok());
  if (!maker_) maker_ = std::make_unique<PlainMaker>(home_);
  auto made = maker_->make(subject_.instance, {});
  ASSERT_TRUE(made.ok()) << made.error().message;
  sandbox_ = *std::move(made);
  std::vector<std::string> argv = argv_;
  argv.insert(argv.end(), {"--host", sandbox_->socket_path(), "-m", model_path_});
  ASSERT_TRUE(sandbox_->run(argv, env_).ok());
  ASSERT_TRUE(eventually(
      [&] { return sandbox_->ended() || *probe_ready(sandbox_->socket_path(), base::Seconds(1)) == Readiness::yes; }));
  ASSERT_FALSE(sandbox_->ended()) << read_available(sandbox_->take_output().get());
  (void)sandbox_->engine_pid();
}

TierSubject EngineRig::subject() {
  TierSubject subject = subject_;
  subject.sandbox = sandbox_.get();
  return subject;
}

void EngineRig::set_device(spec::DeviceKind kind, const std::string& id) {
  subject_.model.resources.device = kind;
  subject_.device = base::DeviceId(id);
}

std::string EngineRig::answer() {
  return body_of(
      http_post(sandbox_->socket_path(), "/v1/completions",
                R"({"prompt":"Once upon a time","max_tokens":8,"temperature":0,"cache_prompt":false,"stream":false})"));
}

Holdings EngineRig::holds() {
  return {0, group_held_bytes(home_.label, sandbox_->name()), bytes_in_memory(model_path_)};
}

void EngineRig::kill_engine() {
  sandbox_->kill();
  EXPECT_TRUE(eventually([&] { return sandbox_->ended(); }));
}

bool EngineRig::alive() {
  return sandbox_ && !sandbox_->ended() && !group_is_empty(home_, sandbox_->name());
}

base::Status EngineRig::destroy() {
  return sandbox_ ? sandbox_->destroy() : base::Status();
}

std::vector<std::string> fake_engine(std::vector<std::string> flags) {
  flags.insert(flags.begin(), {std::string(THAW_BINARY_DIR) + "/fake-engine", "--fake-map-model"});
  return flags;
}

std::vector<std::string> real_engine() {
  const auto engine = find_engine(spec::EngineKind::llama_cpp, {}, {});
  if (!engine.ok() || real_model().empty()) return {};
  return {*engine, "-c",  "256",     "-np",         "1", "-t",       "1",   "--no-warmup",
          "--fit", "off", "--no-ui", "--cache-ram", "0", "--device", "none"};
}

std::string real_model() {
  const char* given = std::getenv("THAW_TEST_MODEL");  // NOLINT(concurrency-mt-unsafe): tests run one by one
  const std::string path =
      given != nullptr ? given : std::string(THAW_SOURCE_DIR) + "/../shared/models/stories260K.gguf";
  return ::access(path.c_str(), R_OK) == 0 ? path : std::string();
}

std::string http_post(const std::string& socket_path, const std::string& path, const std::string& body,
                      base::Duration patience) {
  const Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
  const auto patience_s = duration_cast<base::Seconds>(patience).count();
  const timeval timeout{patience_s, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  const std::string request =
      "POST " + path +
      " HTTP/1.1\r\nHost: engine\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  if (::write(fd.get(), request.data(), request.size()) != static_cast<ssize_t>(request.size())) return {};
  std::string answer;
  std::array<char, 4096> chunk{};
  for (ssize_t got = 0; (got = ::read(fd.get(), chunk.data(), chunk.size())) > 0;)
    answer.append(chunk.data(), static_cast<std::size_t>(got));
  return answer;
}

std::string body_of(const std::string& answer) {
  const std::size_t end = answer.find("\r\n\r\n");
  if (end == std::string::npos || !answer.starts_with("HTTP/1.1 200")) return {};
  std::string body = answer.substr(end + 4);
  // What differs from one answer to the next says nothing of the engine's memory: ids, times.
  const std::size_t text = body.find("\"text\":");
  return text == std::string::npos ? body : body.substr(text, body.find("\",", text) - text);
}

std::uint64_t bytes_in_memory(const std::string& path) {
  const std::uint64_t bytes = fs::file_size(path);
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  void* const mapping = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (mapping == MAP_FAILED) return UINT64_MAX;
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages((bytes + page - 1) / page);
  const bool answered = ::mincore(mapping, bytes, pages.data()) == 0;
  ::munmap(mapping, bytes);
  if (!answered) return UINT64_MAX;
  std::uint64_t in_memory = 0;
  for (std::size_t i = 0; i < pages.size(); ++i)
    if ((pages[i] & 1U) != 0) in_memory += std::min(page, bytes - i * page);
  return in_memory;
}

std::uint64_t group_held_bytes(const std::string& label, const std::string& name) {
  const auto host = CgroupHost::detect();
  if (!host.ok()) return 0;
  const std::string group = (*host)->mount_of("memory") + (*host)->parent_path(label) + "/" + name;
  const std::string stat = group + "/memory.stat";
  if (!(*host)->unified())
    return number_in(stat, "total_rss") + number_in(stat, "total_shmem") +
           only_number_in(group + "/memory.kmem.usage_in_bytes");
  return number_in(stat, "anon") + number_in(stat, "shmem") + number_in(stat, "kernel") -
         number_in(stat, "slab_reclaimable");
}

bool group_is_empty(const SandboxHome& home, const std::string& name) {
  return !home.cgroups || Cgroup(home.cgroups, home.cgroups->parent_path(home.label) + "/" + name).pids().empty();
}

}  // namespace thaw::node::test
