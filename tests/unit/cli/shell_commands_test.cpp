#include <algorithm>

#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "unit/cli/app_fixture.h"
#include "unit/cli/fake_server.h"

namespace thaw::cli {
namespace {

/// What is offered for the last word, without descriptions.
std::vector<std::string> offered(const std::string& out) {
  std::vector<std::string> words;
  std::istringstream lines(out);
  for (std::string line; std::getline(lines, line);) words.push_back(line.substr(0, line.find('\t')));
  return words;
}

bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

TEST_F(App, CompletesCommandsThatBeginSo) {
  const auto words = offered(run({"__complete", "--", "ver"}).out);
  EXPECT_EQ(words, (std::vector<std::string>{"verify", "version"}));
  EXPECT_FALSE(has(offered(run({"__complete", "--", ""}).out), "__complete"));
}

TEST_F(App, CompletesOptionsOfTheCommandThatStands) {
  const auto words = offered(run({"__complete", "--", "run", "stories", "--t"}).out);
  EXPECT_TRUE(has(words, "--timing"));
  EXPECT_TRUE(has(words, "--temperature"));
  EXPECT_FALSE(has(words, "--max-tokens"));
  EXPECT_TRUE(has(offered(run({"__complete", "--", "audit", "verify", "--"}).out), "--help"));
}

TEST_F(App, CompletesWordsOfAList) {
  const auto words = offered(run({"__complete", "--", "audit", ""}).out);
  EXPECT_TRUE(has(words, "verify"));
  EXPECT_FALSE(has(words, "run"));
}

TEST_F(App, CompletesModelsOfTheServerOnlyWhereOneStands) {
  FakeServer server([](const FakeServer::Request&, FakeServer::Connection& connection) {
    connection.answer(200, R"({"models":[{"name":"stories"},{"name":"qwen"}]})");
  });
  EXPECT_EQ(offered(run({"__complete", "--", "run", ""}, server.url()).out),
            (std::vector<std::string>{"stories", "qwen"}));
  EXPECT_EQ(offered(run({"__complete", "--", "run", "--timing", "q"}, server.url()).out),
            (std::vector<std::string>{"qwen"}));
  EXPECT_EQ(server.requests().size(), 2U);
  EXPECT_EQ(run({"__complete", "--", "run", "stories", ""}, server.url()).out, "");
  EXPECT_EQ(run({"__complete", "--", "run", "--max-tokens", ""}, server.url()).out, "");
  EXPECT_EQ(server.requests().size(), 2U);
}

TEST_F(App, NoServerNoModelsAndNoError) {
  const Outcome outcome = run({"__complete", "--", "run", ""});
  EXPECT_EQ(outcome.code, kExitOk);
  EXPECT_EQ(outcome.out + outcome.err, "");
}

TEST_F(App, ScriptsForThreeShells) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Outcome outcome = run({"completion", shell});
    EXPECT_EQ(outcome.code, kExitOk);
    EXPECT_TRUE(contains(outcome.out, "thaw __complete --")) << shell;
  }
  EXPECT_EQ(run({"completion", "tcsh"}).code, kExitUsage);
}

TEST_F(App, TheManualPageHasEveryCommandAndNoLineThatRoffTakesForARequest) {
  const Outcome outcome = run({"man"});
  EXPECT_EQ(outcome.code, kExitOk);
  for (const char* command : {"serve", "deploy", "run", "chat", "audit ACT", "completion"})
    EXPECT_TRUE(contains(outcome.out, std::string(".SS thaw ") + command)) << command;
  EXPECT_FALSE(contains(outcome.out, "__complete"));
  std::istringstream lines(outcome.out);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line.front() != '.') continue;
    const std::string request = line.substr(0, line.find(' '));
    EXPECT_TRUE(request == ".TH" || request == ".SH" || request == ".SS" || request == ".B" || request == ".TP" ||
                request == ".PP" || request == ".nf" || request == ".fi")
        << line;
  }
}

TEST_F(App, SchemasAreJsonWithTheKeysThatAreRead) {
  namespace json = boost::json;
  const json::value model = json::parse(run({"schema"}).out);
  EXPECT_EQ(model.at_pointer("/properties/apiVersion/const").as_string(), "thaw/v1");
  const json::object& spec = model.at_pointer("/properties/spec/properties").as_object();
  for (const char* key : {"source", "engine", "args", "env", "resources", "scaling", "standby", "snapshot"})
    EXPECT_TRUE(spec.contains(key)) << key;
  EXPECT_EQ(model.at_pointer("/properties/spec/additionalProperties").as_bool(), false);
  EXPECT_EQ(model.at_pointer("/properties/spec/properties/scaling/properties/maxReplicas/minimum").as_int64(), 1);
  EXPECT_EQ(json::parse(run({"schema", "server"}).out).at_pointer("/properties/gateway/type").as_string(), "object");
  EXPECT_EQ(run({"schema", "tenant"}).code, kExitUsage);
}

TEST_F(App, ChatAsksWithWhatWasSaidBefore) {
  int answers = 0;
  FakeServer server([&answers](const FakeServer::Request&, FakeServer::Connection& connection) {
    const std::string text = ++answers == 1 ? "Hello Ada." : "Ada.";
    connection.send(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: r\r\nConnection: close\r\n\r\n");
    connection.send(R"(data: {"choices":[{"index":0,"delta":{"content":")" + text + "\"}}]}\n\ndata: [DONE]\n\n");
  });
  const Outcome outcome =
      run({"chat", "stories", "--system", "be short"}, server.url(), "My name is Ada.\nWhat is my name?\n");
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_EQ(outcome.out, "Hello Ada.\nAda.\n");
  ASSERT_EQ(server.requests().size(), 2U);
  EXPECT_TRUE(
      contains(server.requests()[1].body,
               R"("messages":[{"role":"system","content":"be short"},{"role":"user","content":"My name is Ada."},)"
               R"({"role":"assistant","content":"Hello Ada."},{"role":"user","content":"What is my name?"}])"))
      << server.requests()[1].body;
}

TEST_F(App, ChatEndsWithTheErrorOfAScriptsLine) {
  FakeServer server([](const FakeServer::Request&, FakeServer::Connection& connection) {
    connection.answer(404, R"({"error":{"message":"no model \"stroies\""}})");
  });
  const Outcome outcome = run({"chat", "stroies"}, server.url(), "one\ntwo\n");
  EXPECT_EQ(outcome.code, kExitNotFound);
  EXPECT_EQ(server.requests().size(), 1U);
}

}  // namespace
}  // namespace thaw::cli
