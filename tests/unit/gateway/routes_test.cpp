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
  for (const char* path : {"/v1/model", "/v1/models/", "/V1/models", "v1/models", "", "/"})
    EXPECT_EQ(parameter("/v1/models", path), "-") << path;
}

TEST(Routes, AStarIsOneSegmentThatIsNotEmpty) {
  EXPECT_EQ(parameter("/v1/models/*", "/v1/models/a"), "a");
  EXPECT_EQ(parameter("/v1/models/*", "/v1/models/a.b-c_d"), "a.b-c_d");
  for (const char* path : {"/v1/models", "/v1/models/", "/v1/models/a/b", "/v1/models//", "/v1/models/a/"})
    EXPECT_EQ(parameter("/v1/models/*", path), "-") << path;
  EXPECT_EQ(parameter("/m/*/stop", "/m/a/stop"), "a");
  for (const char* path : {"/m//stop", "/m/stop", "/m/a/stopp", "/m/a/b/stop", "/m/a/", "/m/a"})
    EXPECT_EQ(parameter("/m/*/stop", path), "-") << path;
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
  for (const Route& route : route_table())
    if (route.rule.scope == Scope::open) open.emplace(route.pattern);
  EXPECT_EQ(open, (std::set<std::string>{"/healthz", "/readyz"}));
}

TEST(Routes, EachHasARule) {
  for (const Route& route : route_table()) EXPECT_TRUE(route.rule.declared()) << route.method << " " << route.pattern;
  static_assert(!Rule{}.declared());
  static_assert(!Rule{Scope::own, 0}.declared(), "for nobody");
  static_assert(!Rule{Scope::open, roles::kAdmin}.declared(), "for everybody, and for some");
}

/// What would let somebody do more than his role says, wherever a new route is put.
TEST(Routes, RolesKeepToTheirMeaning) {
  for (const Route& route : route_table()) {
    const std::string name = std::string(route.method) + " " + std::string(route.pattern);
    const Rule& rule = route.rule;
    EXPECT_NE(route.handler, nullptr) << name;
    if (rule.scope == Scope::open) continue;
    EXPECT_TRUE(rule.allows(spec::Role::admin, true)) << name << ": who runs the platform may do everything";
    if (route.is_act()) {
      EXPECT_FALSE(rule.allows(spec::Role::read_only, true)) << name << ": read-only changes nothing";
      EXPECT_FALSE(rule.allows(spec::Role::inference, true)) << name << ": inference administers nothing";
    }
    if (route.is_inference()) {
      EXPECT_FALSE(rule.allows(spec::Role::read_only, true)) << name << ": read-only asks no model";
    }
    if (rule.allows(spec::Role::deployer, false)) {
      EXPECT_TRUE(rule.allows(spec::Role::admin, false)) << name;
    }
    for (const char* server_wide : {"/admin/v1/nodes", "/admin/v1/tenants", "/metrics", "/admin/v1/status"})
      if (route.pattern.starts_with(server_wide)) {
        EXPECT_EQ(rule.scope, Scope::platform) << name;
      }
    if (route.pattern.starts_with("/admin/v1/keys")) {
      EXPECT_EQ(rule.roles, roles::kAdmin) << name << ": who makes keys makes himself anything";
    }
    if (rule.scope == Scope::platform) {
      for (const spec::Role role : spec::kRoles) EXPECT_FALSE(rule.allows(role, false)) << name;
    }
  }
}

TEST(Routes, EveryRouteOfTheAdminApiNamesItsActionInTheAuditLog) {
  std::set<std::string> actions;
  for (const Route& route : route_table()) {
    const std::string name = std::string(route.method) + " " + std::string(route.pattern);
    const bool admin = route.pattern.starts_with("/admin/");
    EXPECT_EQ(admin, !route.action.empty())
        << name << ": a route of the admin API has an action in the route table, and no other route has";
    if (!admin) continue;
    EXPECT_EQ(route.is_act(), route.method != "GET") << name;
    const std::size_t dot = route.action.find('.');
    EXPECT_TRUE(dot != std::string_view::npos && dot > 0 && dot + 1 < route.action.size() &&
                route.action.find_first_not_of("abcdefghijklmnopqrstuvwxyz.-") == std::string_view::npos)
        << name << ": " << route.action;
    EXPECT_TRUE(actions.emplace(route.action).second) << name << ": " << route.action << " is another route's";
  }
  EXPECT_TRUE(actions.contains("model.deploy"));
}

}  // namespace
}  // namespace thaw::gateway
