#pragma once

namespace thaw::base {

/// The release, as project(VERSION) in CMakeLists.txt has it (a unit test of the CLI compares the two).
inline constexpr const char* kVersion = "0.1.0";

}  // namespace thaw::base
