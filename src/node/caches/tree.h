#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

/// The problem: a directory that an engine wrote holds whatever it liked, links to anywhere and names of any depth, and
/// thaw walks it as root. Everything here goes from descriptor to descriptor and follows no link, so that nothing
/// outside the directory is ever touched, whoever changes it meanwhile. Nor is another file system entered. Blocking;
/// any thread; the directory itself must be thaw's own.
namespace thaw::node {

/// What may lie in such a directory; more is refused with exhausted. An inductor cache of a large model has some
/// thousand files, five levels deep.
inline constexpr std::uint64_t kMaxTreeEntries = 200'000;
inline constexpr int kMaxTreeDepth = 64;

/// Bytes on disk of what lies below `directory`.
base::Result<std::uint64_t> tree_bytes(const std::string& directory);

/// Gives `directory` and all below it to `uid` (owner and group), links themselves and not what they lead to.
base::Status give_tree(const std::string& directory, std::uint32_t uid);

/// Removes all below `directory`, also while somebody writes there; what is written meanwhile may stay.
base::Status empty_foreign_tree(const std::string& directory);

/// Removes `directory` and all below it, of any number and depth. A missing one is no error.
base::Status remove_foreign_tree(const std::string& directory);

}  // namespace thaw::node
