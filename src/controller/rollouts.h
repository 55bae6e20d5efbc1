#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/rollout.h"
#include "controller/controller.h"
#include "controller/model_files.h"
#include "net/loop.h"
#include "net/worker.h"
#include "store/store.h"

namespace thaw::controller {

/// One model's revisions, and which of them serve.
struct RolloutLine {
  std::map<std::uint32_t, store::StoredRevision> revisions;  ///< by number
  std::uint32_t active = 0;
  std::uint32_t candidate = 0;  ///< 0: none
  std::uint32_t percent = 0;    ///< that the candidate gets, or is to get once it is ready
  control::RolloutStage stage = control::RolloutStage::none;
  base::TimePoint begun{};     ///< of `starting`
  base::TimePoint deadline{};  ///< ... and its end
  base::Duration timeout{};    ///< ... and what was asked for, which a restart begins anew
  std::string last_failure;    ///< of the last rollout; empty once one succeeds
  std::uint32_t next_number = 1;
  std::vector<base::ModelName> retiring;  ///< names whose last requests are answered, at most kMaxRetiring
  std::shared_ptr<ModelEntry> coming;     ///< the candidate as it will be when it serves

  [[nodiscard]] const store::StoredRevision* find(std::uint32_t number) const {
    const auto found = revisions.find(number);
    return found == revisions.end() ? nullptr : &found->second;
  }
};

/// Brings revisions of models into service one after the other: the new one becomes ready while the old one serves, and
/// the old one drains before it ends. Every change is stored before it counts, so that a restart in the middle goes on
/// where it was. Loop thread only; nothing blocks but load().
class Rollouts {
 public:
  struct Surroundings {
    net::Loop& loop;
    Controller& controller;
    store::Store& store;
    net::Worker& store_worker;  ///< one thread: what it is given is done in order
    ModelFiles& model_files;
  };
  static constexpr base::Duration kLook = base::Millis(50);  ///< while one is under way, and only then
  static constexpr std::size_t kMaxRetiring = 16;            ///< of one model; the oldest is cut beyond

  explicit Rollouts(Surroundings surroundings);
  Rollouts(const Rollouts&) = delete;
  Rollouts& operator=(const Rollouts&) = delete;

  /// What earlier runs left. Blocking; at start-up, after the models were found again.
  base::Status load();

  [[nodiscard]] const RolloutLine* find(const base::ModelName& model) const;
  /// The name that the serving engines of a model run under; `model` itself when nothing is known of it.
  [[nodiscard]] const base::ModelName& serving(const base::ModelName& model) const;
  /// The entry that answers a request. `key`: equal for requests that belong together (control::goes_to_candidate).
  /// Null: there is no such model.
  [[nodiscard]] std::shared_ptr<ModelEntry> share(const base::ModelName& model, std::uint64_t key) const;
  /// The entry whose replicas answer a request for an adapter: its base's, of a revision that has the adapter. Null: there is none.
  [[nodiscard]] std::shared_ptr<ModelEntry> share_base(const ModelEntry& adapter, std::uint64_t key) const;
  /// The number of the revision that a name runs for now; 0: none.
  [[nodiscard]] std::uint32_t number_of(const base::ModelName& runs_as) const;
  [[nodiscard]] std::size_t models() const;  ///< how many there are

  /// A deploy that was decided on: store.change_rollout(change) first, then carry_out().
  struct Plan {
    store::RolloutChange change;
    control::Succession succession = control::Succession::in_place;
    std::uint32_t number = 0;
    bool fresh = false;      ///< the model's first
    bool unchanged = false;  ///< the spec is what serves already: its engines go on, and what failed is tried again
    ModelEntry entry;
    std::vector<wire::FileStamp> files;
    base::Duration timeout{};
    std::string why{};  ///< for the events, where it was no deploy: "rolled back"
  };
  /// `entry`: named as the model. `to`: a revision of before, whose spec it is; 0: its spec makes a new one, unless it
  /// is what serves.
  Plan plan(ModelEntry entry, std::vector<wire::FileStamp> files, const control::RolloutSettings& settings = {},
            std::uint32_t to = 0);
  void carry_out(Plan plan);

  /// Another share for the candidate: 100 brings it into service, 0 gives it up. The change to be stored, then carried
  /// out by set_percent.
  base::Result<store::RolloutChange> plan_percent(const base::ModelName& model, std::uint32_t percent) const;
  void set_percent(const base::ModelName& model, std::uint32_t percent, const std::string& why);

  /// All names that it runs under, and the memory of it: the model was removed, and is taken out of the books by this.
  /// False: there was none.
  bool remove(const base::ModelName& model);
  /// Brings a revision of `base` into service that has the adapters that it is to have now; nothing to do where the newest has them.
  void follow_adapters(const base::ModelName& base);

 private:
  void look();
  void arm(base::Duration in);
  void begin(RolloutLine& line, Plan& plan);
  void promote(const base::ModelName& model, RolloutLine& line);
  void give_up(const base::ModelName& model, RolloutLine& line, const std::string& why, ModelEvent::Kind kind);
  void retire(RolloutLine& line, const base::ModelName& runs_as);
  void end(const base::ModelName& model, RolloutLine& line, const base::ModelName& runs_as);
  void put_in_books(const ModelEntry& entry, bool must_start, bool told = false);
  void tell(const base::ModelName& model, ModelEvent::Kind kind, control::Rule rule, std::string what,
            std::optional<base::Duration> took = {});
  void store(store::RolloutChange change);
  [[nodiscard]] static store::StoredRollout stored(const base::ModelName& model, const RolloutLine& line);
  [[nodiscard]] base::ModelName free_name(const base::ModelName& model, RolloutLine& line, std::uint32_t number) const;

  Surroundings in_;
  std::map<base::ModelName, RolloutLine> lines_;
  net::Timer timer_;
};

}  // namespace thaw::controller
