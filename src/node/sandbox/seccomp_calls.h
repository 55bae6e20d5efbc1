#pragma once

#include <span>

/// The system calls of Linux, sorted by what engines may do with them. Names that an architecture or libseccomp does not know are skipped by
/// runc, so one list serves all. docs/sandbox.md says what the lists were derived from; a test compares them with the kernel's own list, so that
/// a call which is new there is sorted by somebody.
namespace thaw::node {

/// Whatever their arguments.
std::span<const char* const> allowed_calls();
/// By their arguments (seccomp.cpp): clone, clone3, personality, socket.
std::span<const char* const> conditional_calls();
/// Fail with EPERM, as every call does that stands in no list.
std::span<const char* const> refused_calls();
/// End the process: no engine and no library has a use for them, and who asks has taken an engine over.
std::span<const char* const> fatal_calls();

}  // namespace thaw::node
