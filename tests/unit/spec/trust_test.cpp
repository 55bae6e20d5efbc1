#include "spec/trust.h"

#include <gtest/gtest.h>

#include "spec/parse.h"

namespace thaw::spec {
namespace {

SandboxKind kind(Trust trust, std::optional<SandboxKind> wish, SandboxPolicy policy = {}) {
  ModelSpec model;
  model.sandbox = wish;
  const auto chosen = sandbox_kind_for(trust, model, policy);
  return chosen.ok() ? *chosen : SandboxKind::none;
}

TEST(Trust, TheOperatorsModelsRunUnderRuncAndTenantsUnderGvisor) {
  EXPECT_EQ(trust_of(base::TenantName("default")), Trust::own);
  EXPECT_EQ(trust_of(base::TenantName("team-a")), Trust::foreign);
  EXPECT_EQ(kind(Trust::own, {}), SandboxKind::runc);
  EXPECT_EQ(kind(Trust::own, SandboxKind::runsc), SandboxKind::runsc);
  EXPECT_EQ(kind(Trust::foreign, {}), SandboxKind::runsc);
  EXPECT_EQ(kind(Trust::foreign, SandboxKind::runsc), SandboxKind::runsc);
}

TEST(Trust, ATenantCannotChooseLess) {
  ModelSpec model;
  model.name = base::ModelName("m");
  model.sandbox = SandboxKind::runc;
  const auto refused = sandbox_kind_for(Trust::foreign, model, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, base::ErrorKind::denied);
  EXPECT_NE(refused.error().message.find("node.tenantSandbox"), std::string::npos);
  EXPECT_EQ(kind(Trust::foreign, SandboxKind::runc, {SandboxKind::runc, SandboxKind::runc}), SandboxKind::runc) << "the operator allows it";
  EXPECT_EQ(kind(Trust::foreign, {}, {SandboxKind::runsc, SandboxKind::runc}), SandboxKind::runsc) << "never less than the operator's own";
  EXPECT_EQ(kind(Trust::foreign, SandboxKind::runsc, {SandboxKind::none, SandboxKind::runsc}), SandboxKind::none) << "a server without sandboxes";
}

TEST(Secrets, AreNamedInASpecAndNotHeldByIt) {
  const auto parse = [](const std::string& secrets) {
    return parse_model("apiVersion: thaw/v1\nkind: Model\nmetadata: {name: m}\nspec:\n  source: {path: /m.gguf}\n" + secrets, "m.yaml", "");
  };
  const auto right = parse("  secrets: [{name: hf-token, file: team/hf.token}, {name: b, fromEnv: B_1}]\n");
  ASSERT_TRUE(right.ok()) << right.error().message;
  ASSERT_EQ(right->secrets.size(), 2U);
  EXPECT_EQ(right->secrets[0].file, "team/hf.token");
  EXPECT_EQ(right->secrets[1].from_env, "B_1");
  EXPECT_EQ(to_json(parse_model(to_json(*right), "stored", "").value()), to_json(*right));
  for (const char* wrong : {"[{name: a}]", "[{name: a, file: x, fromEnv: Y}]", "[{name: ../a, file: x}]", "[{name: a, file: ../x}]", "[{name: a, file: /x}]",
                            "[{name: a, file: x//y}]", "[{name: a, fromEnv: A-B}]", "[{name: a, file: x}, {name: a, file: y}]", "{a: b}", "[{name: .a, file: x}]"})
    EXPECT_FALSE(parse(std::string("  secrets: ") + wrong + "\n").ok()) << wrong;
  const auto image = parse("  secrets: [{name: a, file: x}]\n  snapshot: {mode: always}\n");
  ASSERT_FALSE(image.ok());
  EXPECT_NE(image.error().message.find("on disk"), std::string::npos);
}

}  // namespace
}  // namespace thaw::spec
