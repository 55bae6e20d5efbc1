#include "cli/conversation.h"

#include <gtest/gtest.h>

namespace thaw::cli {
namespace {

using Kind = Conversation::Step::Kind;

TEST(Conversation, ALineIsAMessageAndGrowsTheTalk) {
  Conversation talk("be short");
  const auto step = talk.take("  My name is Ada.\r");
  EXPECT_EQ(step.kind, Kind::ask);
  EXPECT_EQ(step.text, "My name is Ada.");
  EXPECT_TRUE(talk.messages().empty()) << "only what was answered is remembered";
  talk.answered(step.text, "Hello Ada.");
  ASSERT_EQ(talk.messages().size(), 2U);
  EXPECT_EQ(talk.messages()[0].role, "user");
  EXPECT_EQ(talk.messages()[1].content, "Hello Ada.");
  EXPECT_EQ(talk.take("   ").kind, Kind::nothing);
}

TEST(Conversation, ThreeQuotesHoldSeveralLines) {
  Conversation talk("");
  EXPECT_EQ(talk.take("\"\"\"first").kind, Kind::nothing);
  EXPECT_TRUE(talk.in_message());
  EXPECT_EQ(talk.take("/exit").kind, Kind::nothing) << "no command within a message";
  EXPECT_EQ(talk.take("").kind, Kind::nothing);
  const auto step = talk.take("last\"\"\"");
  EXPECT_EQ(step.kind, Kind::ask);
  EXPECT_EQ(step.text, "first\n/exit\n\nlast");
  EXPECT_FALSE(talk.in_message());
  EXPECT_EQ(talk.take("\"\"\"one\"\"\"").text, "one");
}

TEST(Conversation, AMessageHasABound) {
  Conversation talk("");
  (void)talk.take("\"\"\"");
  const auto step = talk.take(std::string(Conversation::kMaxMessageBytes + 1, 'x'));
  EXPECT_EQ(step.kind, Kind::say);
  EXPECT_FALSE(talk.in_message());
}

TEST(Conversation, Commands) {
  Conversation talk("old");
  EXPECT_EQ(talk.take("/system be kind").kind, Kind::say);
  EXPECT_EQ(talk.system(), "be kind");
  EXPECT_EQ(talk.take("/system").kind, Kind::say);
  EXPECT_EQ(talk.system(), "");
  talk.answered("a", "b");
  (void)talk.take("/clear");
  EXPECT_TRUE(talk.messages().empty());
  (void)talk.take("/timing");
  EXPECT_TRUE(talk.timing());
  EXPECT_EQ(talk.take("/help").kind, Kind::help);
  EXPECT_EQ(talk.take("/bye").kind, Kind::end);
  const auto unknown = talk.take("/claer");
  EXPECT_EQ(unknown.kind, Kind::say);
  EXPECT_NE(unknown.text.find("did you mean /clear?"), std::string::npos) << unknown.text;
}

TEST(Conversation, TheOldestLeaveFirst) {
  Conversation talk("");
  for (std::size_t i = 0; i < Conversation::kMaxMessages; ++i) talk.answered(std::to_string(i), "ok");
  EXPECT_EQ(talk.messages().size(), Conversation::kMaxMessages);
  EXPECT_EQ(talk.messages().front().role, "user");
  EXPECT_EQ(talk.messages().front().content, std::to_string(Conversation::kMaxMessages / 2));
}

}  // namespace
}  // namespace thaw::cli
