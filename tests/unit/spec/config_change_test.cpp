#include "spec/config_change.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <set>

#include "spec/schema.h"

namespace thaw::spec {
namespace {

namespace json = boost::json;

/// "gateway.maxBodyBytes": the keys of a schema that hold no keys of their own.
void leaves(const json::value& schema, const std::string& path, std::set<std::string>& into) {
  const auto* properties = schema.is_object() ? schema.get_object().if_contains("properties") : nullptr;
  if (properties == nullptr) {
    into.insert(path);
    return;
  }
  for (const auto& [name, value] : properties->get_object())
    leaves(value, path.empty() ? std::string(name) : path + "." + std::string(name), into);
}

TEST(ConfigChange, KnowsEveryKeyThatAConfigurationMayHave) {
  std::set<std::string> in_schema;
  leaves(json::parse(server_schema()), "", in_schema);
  const auto compared = compared_keys();
  for (const std::string& key : in_schema) {
    if (key == "apiVersion" || key == "kind") continue;
    // A key whose value is a map, or a group that is read by a function of its own, is compared as a whole.
    const bool known = std::any_of(compared.begin(), compared.end(), [&](const std::string& name) {
      return key == name || key.starts_with(name + ".") || name.starts_with(key + ".");
    });
    EXPECT_TRUE(known) << key
                       << " is missing in config_change.cpp: say whether it counts at once or from the next start on";
  }
}

TEST(ConfigChange, NothingChangesByReadingTheSame) {
  ServerConfig running;
  EXPECT_TRUE(take_over(running, ServerConfig()).empty());
}

TEST(ConfigChange, WhatCanChangeIsTakenAndTheRestIsNamed) {
  ServerConfig running;
  ServerConfig read;
  read.log_level = "debug";
  read.gateway.max_body_bytes = 1 << 20;
  read.cors_origins = {"https://chat.example.com"};
  read.usage.prices.currency = "EUR";
  read.sources.allow_private = true;
  read.listen_port = 1;
  read.node.pool = 7;
  read.engine_paths["vllm"] = "/opt/vllm";
  const ConfigChange change = take_over(running, read);
  EXPECT_EQ(change.applied, (std::vector<std::string>{"gateway.maxBodyBytes", "cors.origins", "sources.allowPrivate",
                                                      "usage.prices", "log.level"}));
  EXPECT_EQ(change.needs_restart, (std::vector<std::string>{"listen", "node.pool", "engines"}));
  EXPECT_EQ(running.log_level, "debug");
  EXPECT_EQ(running.gateway.max_body_bytes, 1U << 20);
  EXPECT_EQ(running.listen_port, ServerConfig().listen_port) << "it listens where it did";
  EXPECT_EQ(running.node.pool, ServerConfig().node.pool);
  EXPECT_EQ(take_over(running, read).needs_restart, change.needs_restart) << "it is said until it is done";
}

TEST(ConfigChange, FilesOfTlsMeanSomethingOnlyWhereThereIsTls) {
  ServerConfig running;
  ServerConfig read;
  read.tls.on = true;
  read.tls.certificate = "/new.crt";
  EXPECT_EQ(take_over(running, read).needs_restart, (std::vector<std::string>{"tls.listen", "tls.cert"}));
  running.tls.on = true;
  EXPECT_EQ(take_over(running, read).applied, (std::vector<std::string>{"tls.cert"}));
  EXPECT_EQ(running.tls.certificate, "/new.crt");
}

}  // namespace
}  // namespace thaw::spec
