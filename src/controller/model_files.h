#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "controller/controller.h"
#include "controller/known_file.h"
#include "net/worker.h"
#include "node/agent.h"
#include "store/store.h"

namespace thaw::controller {

/// One `thaw verify` of a model under way: its files one after the other. Whoever asked looks at it; letting go of it ends it
/// after the file in work.
struct Verification {
  std::vector<FileVerdict> verdicts;  ///< so far
  base::Status status;                ///< a failure: the rest could not be looked at
  bool done = false;
};

/// Knows what each deployed model's files were like, notices at each start and under running replicas that they are not so
/// any more, has them hashed in the background once they have been loaded, and compares when it is asked to.
/// A changed file is adopted: replicas of the old one are replaced, the memory estimate follows the new one, and it is hashed
/// too. But the digest of what was deployed stays the one to compare with until the model is deployed again.
/// Loop thread only; what blocks (store, headers, hashing) is done elsewhere.
class ModelFiles final : public FilesListener {
 public:
  using SendToNode = std::function<void(wire::NodeCommand)>;
  using Inspect = std::function<base::Result<node::ModelFacts>(const spec::ModelSpec&)>;

  struct Surroundings {
    net::Loop& loop;
    Controller& controller;
    store::Store& store;
    net::Worker& store_worker;  ///< one thread: what it is given is done in order
    net::Worker& files_worker;
    observe::Metrics& metrics;
    SendToNode send;
    Inspect inspect = node::inspect_model;
  };
  static constexpr std::size_t kMaxVerifications = 64;  ///< at once

  /// Listens to the controller from now on.
  explicit ModelFiles(Surroundings surroundings);
  ~ModelFiles();
  ModelFiles(const ModelFiles&) = delete;
  ModelFiles& operator=(const ModelFiles&) = delete;

  /// What earlier runs knew. Blocking; at start-up.
  base::Status load();

  /// The model was deployed, perhaps again, with its files as they are now: that is how they are meant to be.
  void deployed(const base::ModelName& model, const std::vector<wire::FileStamp>& files);
  void removed(const base::ModelName& model);

  /// Empty when nothing is known (yet).
  [[nodiscard]] const std::vector<KnownFile>& files(const base::ModelName& model) const;
  /// Of its files, how many differ from what was deployed, or are gone.
  [[nodiscard]] std::size_t changed_files(const base::ModelName& model) const;
  [[nodiscard]] std::size_t models_with_changed_files() const;

  /// Hashes the model's files again and compares. Errors: not_found; exhausted when kMaxVerifications are under way.
  base::Result<std::shared_ptr<const Verification>> verify(const base::ModelName& model);

  // --- FilesListener
  void files_seen(const base::ModelName& model, const std::vector<wire::FileStamp>& files) override;
  void files_changed(const base::ModelName& model, const wire::FilesChanged& change) override;
  void model_loaded(const base::ModelName& model) override;
  void file_hashed(const wire::FileHashed& answer) override;

 private:
  using VerificationPtr = std::shared_ptr<Verification>;

  /// What the node was asked to hash, and for whom.
  struct Question {
    base::ModelName model;
    std::string path;
    VerificationPtr verification;  ///< null: for the record
  };

  KnownFile* find(const base::ModelName& model, const std::string& path);
  void save(const base::ModelName& model);
  void recheck(const base::ModelName& model);
  void rechecked(const std::shared_ptr<ModelEntry>& before, const base::Result<node::ModelFacts>& facts);
  void ask(Question question);
  void take_background(const Question& question, const wire::FileHashed& answer);
  void verify_next(const base::ModelName& model, const VerificationPtr& verification);
  void inspect_for(const base::ModelName& model, const VerificationPtr& verification);

  Surroundings in_;
  std::map<base::ModelName, std::vector<KnownFile>> files_;
  std::map<std::uint64_t, Question> questions_;  ///< to the node, not yet answered
  std::uint64_t next_question_ = 1;
};

}  // namespace thaw::controller
