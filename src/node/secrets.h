#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "spec/model_spec.h"

/// The problem: an engine may need a token, and what is put into its environment or its arguments can be read in /proc, in logs and in whatever it
/// starts. So it gets a file that only it can read, which never was on a disk of ours and goes with its sandbox.
namespace thaw::node {

/// Never logged, never part of a message.
struct SecretValue {
  std::string name;
  std::string value;
};

inline constexpr std::size_t kMaxSecret_bytes = 64ULL << 10;
/// Where engines find them: <this>/NAME.
inline constexpr const char* kInsideSecrets = "/run/secrets";

/// The values of a model's secrets, as they are now. Files are opened below `directory` (for tenants other than the operator's own below
/// `directory`/TENANT) in such a way that no link leads out of it; variables are the operator's alone. Errors name the secret and the remedy.
base::Result<std::vector<SecretValue>> read_secrets(const spec::ModelSpec& model, const base::TenantName& tenant, const std::string& directory);

/// Writes them into `directory`, which is made: 0500, the files 0400, owned by `uid`.
base::Status write_secrets(const std::string& directory, const std::vector<SecretValue>& secrets, std::uint32_t uid);

}  // namespace thaw::node
