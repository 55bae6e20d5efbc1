#include "cli/sse.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace thaw::cli {
namespace {

struct Seen {
  std::vector<std::string> data;
  std::vector<std::string> comments;
  SseParser parser{[this](std::string_view text) { data.emplace_back(text); },
                   [this](std::string_view text) { comments.emplace_back(text); }};
};

using Texts = std::vector<std::string>;

TEST(Sse, TellsDataFromComments) {
  Seen seen;
  ASSERT_TRUE(seen.parser.feed(": waking\n\ndata: {\"a\":1}\n\ndata:no space\n\ndata: [DONE]\n\n").ok());
  EXPECT_EQ(seen.data, (Texts{"{\"a\":1}", "no space", "[DONE]"}));
  EXPECT_EQ(seen.comments, Texts{"waking"});
}

TEST(Sse, GivesTheSameEventsWhereverTheNetworkCuts) {
  const std::string stream = ": hold\r\n\r\nevent: x\r\ndata: one\r\n\r\nid: 7\r\ndata: two\r\ndata: lines\r\n\r\n";
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    Seen seen;
    ASSERT_TRUE(seen.parser.feed(std::string_view(stream).substr(0, cut)).ok());
    ASSERT_TRUE(seen.parser.feed(std::string_view(stream).substr(cut)).ok());
    EXPECT_EQ(seen.data, (Texts{"one", "two\nlines"})) << "cut at " << cut;
    EXPECT_EQ(seen.comments, Texts{"hold"}) << "cut at " << cut;
  }
}

TEST(Sse, AnEventCountsOnlyOnceItsBlankLineCame) {
  Seen seen;
  ASSERT_TRUE(seen.parser.feed("data: half\n").ok());
  EXPECT_TRUE(seen.data.empty());
  ASSERT_TRUE(seen.parser.feed("\n").ok());
  EXPECT_EQ(seen.data, Texts{"half"});
}

TEST(Sse, KeepsEmptyDataAndIgnoresLinesWithoutColon) {
  Seen seen;
  ASSERT_TRUE(seen.parser.feed("garbage\n\ndata\n\ndata:\n\n").ok());
  EXPECT_EQ(seen.data, (Texts{"", ""}));
}

TEST(Sse, RefusesAnEndlessLineAndAnEndlessEvent) {
  Seen line;
  EXPECT_TRUE(line.parser.feed("data: " + std::string(SseParser::kMaxEventBytes - 6, 'x')).ok());
  EXPECT_FALSE(line.parser.feed("x").ok());

  Seen event;
  const std::string half = "data: " + std::string(SseParser::kMaxEventBytes / 2 + 1, 'x') + "\n";
  EXPECT_TRUE(event.parser.feed(half).ok());
  EXPECT_FALSE(event.parser.feed(half).ok());
}

}  // namespace
}  // namespace thaw::cli
