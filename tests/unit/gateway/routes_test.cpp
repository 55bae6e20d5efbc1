#include "gateway/routes.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace thaw::gateway {
namespace {

/// What * stands for; "-" if the path does not match.
std::string parameter(std::string_view pattern, std::string_view path) {
  std::string_view found = "none";
  return matches(pattern, path, found) ? std::string(found) : "-";
}

/// "PATTERN parameter" of the one route that answers; empty if none does.
std::string route_of(std::string_view method, std::string_view path) {
  std::string found;
  for (const Route& route : route_table()) {
    std::string_view star;
    if (route.method != method || !matches(route.pattern, path, star)) continue;
    EXPECT_TRUE(found.empty()) << path << " has two routes: " << found << " and " << route.pattern;
    found = std::string(route.pattern) + (star.empty() ? "" : " " + std::string(star));
  }
  return found;
}

TEST(Routes, APatternWithoutStarIsThePath) {
  EXPECT_EQ(parameter("/v1/models", "/v1/models"), "none");
  for (const char* path : {"/v1/model", "/v1/models/", "/V1/models", "v1/models", "", "/"}) EXPECT_EQ(parameter("/v1/models", path), "-") << path;
}

TEST(Routes, AStarIsOneSegmentThatIsNotEmpty) {
  EXPECT_EQ(parameter("/v1/models/*", "/v1/models/a"), "a");
  EXPECT_EQ(parameter("/v1/models/*", "/v1/models/a.b-c_d"), "a.b-c_d");
  for (const char* path : {"/v1/models", "/v1/models/", "/v1/models/a/b", "/v1/models//", "/v1/models/a/"}) EXPECT_EQ(parameter("/v1/models/*", path), "-") << path;
  EXPECT_EQ(parameter("/m/*/stop", "/m/a/stop"), "a");
  for (const char* path : {"/m//stop", "/m/stop", "/m/a/stopp", "/m/a/b/stop", "/m/a/", "/m/a"}) EXPECT_EQ(parameter("/m/*/stop", path), "-") << path;
}

TEST(Routes, EachPathHasOneRoute) {
  EXPECT_EQ(route_of("POST", "/v1/chat/completions"), "/v1/chat/completions");
  EXPECT_EQ(route_of("GET", "/v1/models/stories"), "/v1/models/* stories");
  EXPECT_EQ(route_of("GET", "/admin/v1/models/stories/logs"), "/admin/v1/models/*/logs stories");
  EXPECT_EQ(route_of("GET", "/admin/v1/models/logs"), "/admin/v1/models/* logs");
  EXPECT_EQ(route_of("POST", "/admin/v1/models/stories/stop"), "/admin/v1/models/*/stop stories");
  EXPECT_EQ(route_of("DELETE", "/admin/v1/models/stop"), "/admin/v1/models/* stop");
  EXPECT_EQ(route_of("GET", "/v1/chat/completions"), "");
  EXPECT_EQ(route_of("POST", "/admin/v1/models/stories/stop/now"), "");
  EXPECT_EQ(route_of("GET", "/"), "");
}

TEST(Routes, NothingButHealthIsOpen) {
  std::set<std::string> open;
  for (const Route& route : route_table()) {
    EXPECT_NE(route.handler, nullptr) << route.pattern;
    if (route.access == Access::open) open.emplace(route.pattern);
  }
  EXPECT_EQ(open, (std::set<std::string>{"/healthz", "/readyz"}));
}

}  // namespace
}  // namespace thaw::gateway
