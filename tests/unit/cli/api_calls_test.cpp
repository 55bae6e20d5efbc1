// What the command line asks the server for is in the server's OpenAPI document: every path that stands in src/cli is looked up there.
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "gateway/openapi.h"

namespace thaw::cli {
namespace {

namespace fs = std::filesystem;

struct Call {
  std::string method;  ///< empty: the source does not say it beside the path
  std::string path;    ///< what is put in at run time is "*"
};

/// The path that begins with the literal at `at` (its opening quote): what follows on the line in other literals, with "*" for what is between them.
std::string path_at(const std::string& line, std::size_t at) {
  std::string path;
  while (true) {
    const std::size_t end = line.find('"', at + 1);
    if (end == std::string::npos) return path;
    path += line.substr(at + 1, end - at - 1);
    // Another literal is joined by "+"; an argument or an initialiser ends the path.
    std::size_t next = end + 1;
    int depth = 0;
    bool joined = false;
    for (; next < line.size(); ++next) {
      const char c = line[next];
      if (c == '(') ++depth;
      if (c == ')' && --depth < 0) {
        if (!path.starts_with("/")) return path;
        depth = 0;  // std::string("...") + more
      }
      if (depth == 0 && (c == ',' || c == ';' || c == '}' || c == ':')) break;
      if (depth == 0 && c == '+') joined = true;
      if (depth == 0 && c == '"') break;
    }
    if (!joined) return path;
    path += "*";
    if (next >= line.size() || line[next] != '"') return path;
    at = next;
  }
}

std::string tidied(std::string path) {
  path = path.substr(0, path.find('?'));
  for (std::size_t at = path.find("{}"); at != std::string::npos; at = path.find("{}")) path.replace(at, 2, "*");
  for (std::size_t at = path.find("**"); at != std::string::npos; at = path.find("**")) path.erase(at, 1);
  // "/models/NAME" + ("?kill=1" or nothing)
  if (path.ends_with("*") && !path.ends_with("/*")) path.pop_back();
  return path;
}

std::vector<Call> calls_in(const fs::path& file) {
  std::vector<Call> calls;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    for (std::size_t at = line.find("\"/"); at != std::string::npos; at = line.find("\"/", at + 1)) {
      const std::string path = tidied(path_at(line, at));
      if (!path.starts_with("/admin/v1") && !path.starts_with("/v1/") && !path.starts_with("/healthz") && !path.starts_with("/readyz")) continue;
      Call call{"", path};
      for (const char* method : {"GET", "POST", "PUT", "DELETE"}) {
        const std::size_t said = line.rfind("{\"" + std::string(method) + "\"", at);
        if (said != std::string::npos) call.method = method;
      }
      calls.push_back(std::move(call));
    }
  }
  return calls;
}

std::vector<std::string> segments(const std::string& path) {
  std::vector<std::string> all(1);
  for (const char c : path) {
    if (c == '/') all.emplace_back();
    else all.back() += c;
  }
  return all;
}

/// Either may have a place for anything.
bool fits(const std::string& path, const std::string& pattern) {
  const auto a = segments(path), b = segments(pattern);
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const std::string& x, const std::string& y) {
           return x == y || x == "*" || y.starts_with("{");
         });
}

bool documented(const boost::json::object& paths, const Call& call) {
  return std::any_of(paths.begin(), paths.end(), [&](const auto& entry) {
    std::string method = call.method;
    std::transform(method.begin(), method.end(), method.begin(), [](unsigned char c) { return std::tolower(c); });
    return fits(call.path, std::string(entry.key())) && (method.empty() || entry.value().get_object().contains(method));
  });
}

}  // namespace

TEST(ApiCalls, EachIsInTheDocument) {
  const boost::json::object document = gateway::openapi();
  const boost::json::object& paths = document.at("paths").get_object();
  std::set<std::string> seen;
  for (const auto& entry : fs::directory_iterator(THAW_SOURCE_DIR "/src/cli")) {
    if (entry.path().extension() != ".cpp") continue;
    for (const Call& call : calls_in(entry.path())) {
      EXPECT_TRUE(documented(paths, call)) << entry.path().filename() << " asks for " << call.method << " " << call.path;
      seen.insert(call.method + " " + call.path);
    }
  }
  // The search itself still finds what it should.
  for (const char* known : {"GET /admin/v1/models", "POST /admin/v1/models/*/stop", "DELETE /admin/v1/images/*", "GET /admin/v1/usage", " /admin/v1/models/*/events"})
    EXPECT_TRUE(seen.contains(known)) << known;
  EXPECT_GT(seen.size(), 30U);
}

TEST(ApiCalls, WhatIsNotThereIsNotFound) {
  const boost::json::object document = gateway::openapi();
  const boost::json::object& paths = document.at("paths").get_object();
  EXPECT_TRUE(documented(paths, {"GET", "/admin/v1/models/*"}));
  EXPECT_FALSE(documented(paths, {"PUT", "/admin/v1/models/*"}));
  EXPECT_FALSE(documented(paths, {"GET", "/admin/v1/model"}));
  EXPECT_FALSE(documented(paths, {"", "/admin/v1/models/*/*/more"}));
}

}  // namespace thaw::cli
