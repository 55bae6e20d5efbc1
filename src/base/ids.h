#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace thaw::base {

/// A string that cannot be taken for another kind of string: ModelName is no TenantName.
template <typename Tag>
class StrongString {
 public:
  StrongString() = default;
  explicit StrongString(std::string value) : value_(std::move(value)) {}
  const std::string& str() const { return value_; }
  bool empty() const { return value_.empty(); }
  friend auto operator<=>(const StrongString&, const StrongString&) = default;

 private:
  std::string value_;
};

/// A number that cannot be taken for another kind of number. 0 means "none".
template <typename Tag>
class StrongNumber {
 public:
  constexpr StrongNumber() = default;
  constexpr explicit StrongNumber(std::uint64_t value) : value_(value) {}
  constexpr std::uint64_t value() const { return value_; }
  constexpr explicit operator bool() const { return value_ != 0; }
  friend constexpr auto operator<=>(const StrongNumber&, const StrongNumber&) = default;

 private:
  std::uint64_t value_ = 0;
};

using ModelName = StrongString<struct ModelNameTag>;
using TenantName = StrongString<struct TenantNameTag>;
using NodeName = StrongString<struct NodeNameTag>;
using DeviceId = StrongString<struct DeviceIdTag>;  ///< "cpu0", "cuda1"; unique within a node

using ImageId = StrongString<struct ImageIdTag>;    ///< of a snapshot: 1 to 128 of [a-z0-9._~-], no dot first; unique on its node for ever

using InstanceId = StrongNumber<struct InstanceIdTag>;  ///< unique for the life of a data directory
using RequestId = StrongNumber<struct RequestIdTag>;    ///< unique for the life of a gateway process
using KeyId = StrongNumber<struct KeyIdTag>;            ///< row id of an API key; 0 is the --dev caller

}  // namespace thaw::base

template <typename Tag>
struct std::hash<thaw::base::StrongString<Tag>> {
  std::size_t operator()(const thaw::base::StrongString<Tag>& s) const noexcept { return std::hash<std::string>{}(s.str()); }
};
template <typename Tag>
struct std::hash<thaw::base::StrongNumber<Tag>> {
  std::size_t operator()(const thaw::base::StrongNumber<Tag>& n) const noexcept {
    return std::hash<std::uint64_t>{}(n.value());
  }
};
