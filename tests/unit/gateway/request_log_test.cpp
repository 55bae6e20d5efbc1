#include "gateway/request_log.h"

#include <gtest/gtest.h>

#include <string>

namespace thaw::gateway {
namespace {

std::string text_of(const RequestLog& log, base::RequestId id) {
  char text[32];
  log.format(id, text);
  return text;
}

TEST(RequestLog, IdsAreOfTheProcessAndCountUp) {
  RequestLog log(0x0123abcd);
  EXPECT_EQ(text_of(log, log.next()), "req_0123abcd0000000001");
  EXPECT_EQ(text_of(log, log.next()), "req_0123abcd0000000002");
  EXPECT_EQ(text_of(log, base::RequestId(0xff'ffff'ffff)), "req_0123abcdffffffffff");
}

TEST(RequestLog, FindsWhatWasRecorded) {
  RequestLog log(7);
  const base::RequestId id = log.next();
  log.record(id).status = 200;
  const RequestRecord* found = log.find(text_of(log, id));
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->id, id);
  EXPECT_EQ(found->status, 200);
}

TEST(RequestLog, KnowsNothingOfWhatWasNotRecorded) {
  RequestLog log(7);
  const base::RequestId id = log.next();
  EXPECT_EQ(log.find(text_of(log, id)), nullptr);
  EXPECT_EQ(log.find(text_of(log, base::RequestId(0))), nullptr) << "0 means none";
}

TEST(RequestLog, RecordIsTheSameUntilItIsPushedOut) {
  RequestLog log(7);
  const base::RequestId first = log.next();
  log.record(first).model = base::ModelName("m");
  EXPECT_EQ(log.record(first).model.str(), "m");
  for (std::size_t i = 1; i < RequestLog::kCapacity; ++i) log.record(log.next()).status = 200;
  EXPECT_NE(log.find(text_of(log, first)), nullptr);
  const base::RequestId usurper = log.next();
  EXPECT_EQ(log.record(usurper).model.str(), "") << "nothing is left of the former";
  EXPECT_EQ(log.find(text_of(log, first)), nullptr);
  EXPECT_NE(log.find(text_of(log, usurper)), nullptr);
}

TEST(RequestLog, RefusesWhatIsNoIdOfThisProcess) {
  RequestLog log(0x0123abcd);
  log.record(log.next());
  ASSERT_NE(log.find("req_0123abcd0000000001"), nullptr);
  for (const char* text : {"", "req_", "req_0123abcd000000001", "req_0123abcd00000000001", "REQ_0123abcd0000000001", "req_0123abce0000000001",
                           "req_0123abcd000000000g", "req_0123abcd-000000001", "req_0123abcd+000000001", "req_ 123abcd0000000001", "req_0123abcd00000000 1"})
    EXPECT_EQ(log.find(text), nullptr) << text;
}

}  // namespace
}  // namespace thaw::gateway
