/// The adapter against the real llama-server and a real model, where both are installed.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/engine/engine.h"
#include "node/engine/llama_memory.h"
#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::TemporaryDirectory;

std::string test_model() {
  const char* given = std::getenv("THAW_TEST_MODEL");  // NOLINT(concurrency-mt-unsafe): tests run one by one
  return given != nullptr ? given : std::string(THAW_SOURCE_DIR) + "/../shared/models/stories260K.gguf";
}

class RealEngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto engine = find_engine(spec::EngineKind::llama_cpp, {}, {});
    if (!engine.ok()) GTEST_SKIP() << engine.error().message;
    if (::access(test_model().c_str(), R_OK) != 0) GTEST_SKIP() << test_model() << " is not there; set THAW_TEST_MODEL";
    start_.model.name = base::ModelName("stories");
    start_.model.source.path = test_model();
    start_.model.args = {"-c", "256"};
    start_.model.resources.cpus = 1;
    start_.device = base::DeviceId("cpu0");
    const auto launch = plan_launch(start_, *engine, {socket_, "", ""});
    ASSERT_TRUE(launch.ok()) << launch.error().message;
    run(*launch);
  }
  void TearDown() override {
    if (child_ <= 0) return;
    ::kill(child_, SIGTERM);
    int status = 0;
    ::waitpid(child_, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << log();
  }

  void run(const EngineLaunch& launch) {
    std::vector<std::string> variables;
    for (const auto& [name, value] : launch.env) variables.push_back(name + "=" + value);
    std::vector<char*> argv;
    std::vector<char*> envp;
    for (const std::string& arg : launch.argv) argv.push_back(const_cast<char*>(arg.c_str()));
    for (const std::string& variable : variables) envp.push_back(const_cast<char*>(variable.c_str()));
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    const std::string log_path = directory_ / "log";
    child_ = ::fork();
    if (child_ == 0) {
      const int fd = ::open(log_path.c_str(), O_WRONLY | O_CREAT, 0600);
      ::dup2(fd, 1);
      ::dup2(fd, 2);
      ::execve(argv[0], argv.data(), envp.data());
      ::_exit(127);
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    Readiness readiness = Readiness::no;
    while (readiness == Readiness::no && std::chrono::steady_clock::now() < deadline && ::waitpid(child_, nullptr, WNOHANG) == 0) {
      readiness = *probe_ready(socket_, base::Seconds(5));
      ::poll(nullptr, 0, 2);  // the probe's own pace
    }
    ASSERT_EQ(readiness, Readiness::yes) << log();
  }

  std::string post(const std::string& path, const std::string& body) const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket_.c_str(), socket_.size());
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    const std::string request = "POST " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
                                "\r\n\r\n" + body;
    EXPECT_EQ(::write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
    std::string answer;
    char chunk[4096];
    for (ssize_t got = 0; (got = ::read(fd, chunk, sizeof chunk)) > 0;) answer.append(chunk, static_cast<std::size_t>(got));
    ::close(fd);
    return answer;
  }
  [[nodiscard]] std::string log() const {
    std::ostringstream text;
    text << std::ifstream(directory_ / "log").rdbuf();
    return text.str();
  }
  [[nodiscard]] std::uint64_t resident_bytes() const {
    std::ifstream file("/proc/" + std::to_string(child_) + "/status");
    for (std::string word; file >> word;) {
      std::uint64_t kib = 0;
      if (word == "VmHWM:" && file >> kib) return kib * 1024;
    }
    return 0;
  }

  TemporaryDirectory directory_;
  std::string socket_ = directory_ / "e.sock";
  wire::StartInstance start_;
  pid_t child_ = 0;
};

void expect_holds(const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

TEST_F(RealEngineTest, OneProcessServesCompletionsChatAndEmbeddingsWithinTheEstimate) {
  expect_holds(post("/v1/completions", R"({"prompt":"Once upon a time","max_tokens":8,"temperature":0})"), ", there was a little girl");
  expect_holds(post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"Hi"}],"max_tokens":4})"), R"("role":"assistant")");
  expect_holds(post("/v1/embeddings", R"({"input":["a","b"]})"), R"("index":1)");
  expect_holds(post("/v1/completions", R"({"prompt":"Once upon a time","max_tokens":8,"temperature":0})"), R"("model":"stories")");
  expect_holds(post("/slots", "{}"), "404");

  const auto model = open_gguf_model(test_model());
  ASSERT_TRUE(model.ok());
  const auto settings = read_llama_args(start_.model, model->head());
  ASSERT_TRUE(settings.ok());
  const std::uint64_t estimate = estimate_llama_memory(*model, *settings, spec::DeviceKind::cpu).total();
  EXPECT_GT(resident_bytes(), 0U);
  EXPECT_LE(resident_bytes(), estimate);
}

}  // namespace
}  // namespace thaw::node
