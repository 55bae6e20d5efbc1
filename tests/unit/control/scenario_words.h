#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "control/scheduler.h"

/// The words of scenario files (tests/scenarios/README.md) as values. What a word should be and is not ends in fail().
namespace thaw::control::test {

using Words = std::vector<std::string>;

/// A mistake in the file itself, or an expectation that did not hold: thrown, and caught by play_scenario.
[[noreturn]] void fail(const std::string& what);

Words split(const std::string& line);
/// The words from the n-th on, as a sentence.
std::string rest_of(const Words& w, std::size_t from);
std::pair<std::string, std::string> key_value(const std::string& word);

base::Duration duration_of(const std::string& text);
std::uint64_t bytes_of(const std::string& text);
std::uint32_t number_of(const std::string& text);
spec::Priority priority_of(const std::string& text);
wire::Way way_of(const std::string& text);
wire::DownReason down_reason_of(const std::string& text);
RequestFailure failure_of(const std::string& text);

/// policy [KEY=VALUE]...
Policy policy_of(const Words& words);
/// node NAME DEVICE=BYTES... [host=BYTES] [disk=BYTES] [driver=NAME]... [image=ID:MODEL:BYTES]...
wire::NodeHello node_of(const Words& words);
/// model NAME memory=BYTES [KEY=VALUE]...
spec::ModelSpec model_of(const Words& words);
/// request ID NAME [TENANT] [affinity=NUMBER] [priority=PRIORITY]
Arrival arrival_of(const Words& w);
/// tenant NAME [weight=NUMBER] [devices=NUMBER] [seconds=NUMBER] [used=NUMBER] [max_priority=PRIORITY]
TenantPolicy tenant_of(const Words& w);
/// The id behind the verb.
base::RequestId request_of(const Words& w);
base::InstanceId instance_of(const Words& w);

}  // namespace thaw::control::test
