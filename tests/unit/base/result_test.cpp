#include "base/result.h"

#include <cerrno>
#include <memory>
#include <unordered_set>

#include <gtest/gtest.h>

#include "base/ids.h"

namespace thaw::base {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return Error{ErrorKind::invalid, "odd"};
  return number / 2;
}

Result<int> quarter(int number) {
  THAW_ASSIGN_OR_RETURN(const int once, half(number));
  THAW_ASSIGN_OR_RETURN(const int twice, half(once));
  return twice;
}

Status is_even(int number) {
  THAW_RETURN_IF_ERROR(half(number));
  return {};
}

TEST(Result, HoldsAValueOrAnError) {
  EXPECT_EQ(*half(4), 2);
  EXPECT_FALSE(half(3).ok());
  EXPECT_EQ(half(3).error().message, "odd");
  EXPECT_EQ(half(3).value_or(7), 7);
}

TEST(Result, MacrosPassTheErrorOn) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).error().message, "odd");
  EXPECT_TRUE(is_even(2).ok());
  EXPECT_EQ(is_even(1).error().kind, ErrorKind::invalid);
}

TEST(Result, CarriesWhatCannotBeCopied) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(5));
  const std::unique_ptr<int> taken = *std::move(result);
  EXPECT_EQ(*taken, 5);
}

TEST(Error, GainsContext) {
  const Error error = Error{ErrorKind::not_found, "no such model"}.within("cannot stop x");
  EXPECT_EQ(error.message, "cannot stop x: no such model");
  EXPECT_EQ(error.kind, ErrorKind::not_found);
  EXPECT_EQ(errno_error("cannot open /x", ENOENT).message, "cannot open /x: No such file or directory");
  EXPECT_EQ(errno_error("cannot open /x", ENOENT).kind, ErrorKind::io);
}

TEST(Error, KindsHaveNames) {
  EXPECT_STREQ(to_string(ErrorKind::not_found), "not_found");
  EXPECT_STREQ(to_string(ErrorKind::exhausted), "exhausted");
}

TEST(Ids, CompareAndHash) {
  EXPECT_FALSE(KeyId());
  EXPECT_TRUE(KeyId(1));
  EXPECT_LT(InstanceId(1), InstanceId(2));
  EXPECT_LT(ModelName("a"), ModelName("b"));
  const std::unordered_set<ModelName> names{ModelName("a"), ModelName("a"), ModelName("b")};
  EXPECT_EQ(names.size(), 2U);
  static_assert(!std::is_convertible_v<ModelName, TenantName>);
}

}  // namespace
}  // namespace thaw::base
