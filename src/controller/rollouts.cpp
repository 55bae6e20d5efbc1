#include "controller/rollouts.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/revision.h"
#include "base/units.h"
#include "controller/adapters.h"
#include "spec/parse.h"

namespace thaw::controller {
namespace {

using base::Error;
using base::ErrorKind;
using base::ModelName;
using Kind = ModelEvent::Kind;
using control::RolloutStage;
using control::Succession;

const control::ModelView* view_of(const std::vector<control::ModelView>& views, const ModelName& name) {
  const auto found =
      std::find_if(views.begin(), views.end(), [&](const control::ModelView& view) { return view.model == name; });
  return found == views.end() ? nullptr : &*found;
}

/// What the store keeps of an entry: under the name that its engines run under.
store::StoredModel stored_model(const ModelEntry& entry, const ModelName& runs_as) {
  return {runs_as, spec::to_json(entry.spec), entry.created_unix_ms, entry.updated_unix_ms, entry.memory_estimated};
}

std::string why_of(const Rollouts::Plan& plan) {
  return plan.why.empty() ? "" : plan.why + ": ";
}

/// How a deploy that needs no waiting took over, in words.
std::string took_over(Succession how, std::uint32_t number, std::uint32_t before) {
  switch (how) {
    case Succession::in_place:
      return fmt::format("revision {} serves on the engines of revision {}: only bounds changed", number, before);
    case Succession::displaced:
      return fmt::format("revision {} serves, and starts when revision {} has left: the devices cannot hold both",
                         number, before);
    case Succession::at_once:
    case Succession::beside:
      break;
  }
  return fmt::format("revision {} serves from the next request on: nothing runs of revision {}", number, before);
}

/// The newest revision that runs, or ran, under a name.
std::uint32_t number_under(const RolloutLine& line, const ModelName& runs_as) {
  std::uint32_t newest = base::revision_part(runs_as.str());
  for (const auto& [number, revision] : line.revisions)
    if (revision.runs_as == runs_as) newest = number;
  return newest;
}

std::string last_words(const control::ModelView* view) {
  return view == nullptr || view->last_failure.empty() ? "" : ": " + view->last_failure;
}

}  // namespace

Rollouts::Rollouts(Surroundings surroundings) : in_(surroundings), timer_(in_.loop, [this] { look(); }) {}

base::Status Rollouts::load() {
  THAW_ASSIGN_OR_RETURN(const auto revisions, in_.store.revisions());
  THAW_ASSIGN_OR_RETURN(const auto rollouts, in_.store.rollouts());
  for (const store::StoredRollout& rollout : rollouts) {
    RolloutLine& line = lines_[rollout.model];
    line.active = rollout.active;
    line.candidate = rollout.candidate;
    line.percent = rollout.percent;
    line.timeout = rollout.timeout_ms > 0 ? base::Duration(base::Millis(rollout.timeout_ms))
                                          : base::Duration(control::RolloutSettings{}.timeout);
  }
  for (const store::StoredRevision& revision : revisions) {
    const auto found = lines_.find(revision.model);
    if (found == lines_.end()) continue;
    found->second.revisions[revision.number] = revision;
    found->second.next_number =
        std::max({found->second.next_number, revision.number + 1, base::revision_part(revision.runs_as.str()) + 1});
  }
  std::vector<ModelName> left_over;
  for (const auto& [name, entry] : in_.controller.models()) {
    const auto found = lines_.find(base::model_of(name));
    if (found == lines_.end()) continue;
    RolloutLine& line = found->second;
    const auto* const active = line.find(line.active);
    const auto* const candidate = line.find(line.candidate);
    if ((active == nullptr || active->runs_as != name) && (candidate == nullptr || candidate->runs_as != name))
      left_over.push_back(name);
  }
  // Their requests ended with the process that they waited in.
  for (const ModelName& name : left_over) end(base::model_of(name), lines_.at(base::model_of(name)), name);
  for (auto& [model, line] : lines_) {
    if (line.candidate == 0) continue;
    const auto* const candidate = line.find(line.candidate);
    const auto entry = candidate == nullptr ? nullptr : in_.controller.share(candidate->runs_as.str());
    if (!entry) {
      line.candidate = line.percent = 0;
      continue;
    }
    line.coming = entry;
    line.stage = RolloutStage::starting;
    line.begun = in_.loop.now();
    line.deadline = line.begun + line.timeout;
    tell(model, Kind::takeover, control::Rule::none,
         fmt::format("the server was started again: revision {} starts beside revision {}, which serves until it is "
                     "ready (at most {})",
                     line.candidate, line.active, base::format_duration(line.timeout)));
    put_in_books(*entry, true);
    arm(kLook);
  }
  // An adapter is stored before its base follows: perhaps there was no time for that.
  std::vector<ModelName> models;
  for (const auto& [model, line] : lines_) models.push_back(model);
  for (const ModelName& model : models) follow_adapters(model);
  return {};
}

const RolloutLine* Rollouts::find(const ModelName& model) const {
  const auto found = lines_.find(model);
  return found == lines_.end() ? nullptr : &found->second;
}

const ModelName& Rollouts::serving(const ModelName& model) const {
  const RolloutLine* const line = find(model);
  const auto* const active = line == nullptr ? nullptr : line->find(line->active);
  return active == nullptr ? model : active->runs_as;
}

std::shared_ptr<ModelEntry> Rollouts::share(const ModelName& model, std::uint64_t key) const {
  const auto found = lines_.find(model);
  if (found == lines_.end()) return in_.controller.share(model.str());
  const RolloutLine& line = found->second;
  if (line.stage == RolloutStage::split && control::goes_to_candidate(key, line.percent))
    if (const auto* const candidate = line.find(line.candidate))
      if (auto entry = in_.controller.share(candidate->runs_as.str())) return entry;
  return in_.controller.share(serving(model).str());
}

std::uint32_t Rollouts::number_of(const ModelName& runs_as) const {
  const RolloutLine* const line = find(base::model_of(runs_as));
  if (line == nullptr) return 0;
  for (const std::uint32_t number : {line->active, line->candidate})
    if (const auto* const revision = line->find(number); revision != nullptr && revision->runs_as == runs_as)
      return number;
  return base::revision_part(runs_as.str());
}

std::size_t Rollouts::models() const {
  return static_cast<std::size_t>(
      std::count_if(lines_.begin(), lines_.end(), [](const auto& one) { return one.second.active != 0; }));
}

store::StoredRollout Rollouts::stored(const ModelName& model, const RolloutLine& line) {
  return {model, line.active, line.candidate, line.percent,
          line.candidate == 0 ? 0 : base::duration_cast<base::Millis>(line.timeout).count()};
}

/// The name of revision `number`, unless something runs under it still.
ModelName Rollouts::free_name(const ModelName& model, RolloutLine& line, std::uint32_t number) const {
  ModelName name = base::at_revision(model, number);
  while (in_.controller.find(name) != nullptr) name = base::at_revision(model, ++line.next_number);
  return name;
}

Rollouts::Plan Rollouts::plan(ModelEntry entry, std::vector<wire::FileStamp> files,
                              const control::RolloutSettings& settings, std::uint32_t to) {
  const ModelName model = entry.spec.name;
  const bool adapter = entry.spec.is_adapter();
  if (!adapter) take_adapters(entry, adapters_of(in_.controller, model));
  RolloutLine& line = lines_[model];
  Plan plan;
  plan.files = std::move(files);
  const auto* const active = line.find(line.active);
  const auto serving_entry = active == nullptr ? nullptr : in_.controller.share(active->runs_as.str());
  const std::string spec_json = spec::to_json(entry.spec);
  plan.fresh = active == nullptr;
  // Without an entry its files were gone at the start, and are there again.
  plan.unchanged = to == 0 && settings.percent >= 100 && active != nullptr &&
                   spec_json == (serving_entry ? spec::to_json(serving_entry->spec) : active->spec_json);
  plan.number = plan.unchanged ? line.active : to != 0 ? to : line.next_number++;
  if (serving_entry) {
    const auto views = in_.controller.scheduler().models();
    plan.succession = plan.unchanged
                          ? Succession::in_place
                          : control::succession(serving_entry->spec, entry.spec, settings.percent < 100,
                                                view_of(views, active->runs_as), in_.controller.scheduler().devices());
  } else {
    plan.succession = plan.unchanged ? Succession::in_place : Succession::at_once;
  }
  if (adapter && active != nullptr) plan.succession = Succession::in_place;  // it runs nowhere
  const ModelName runs_as = plan.succession == Succession::in_place
                                ? active->runs_as
                                : (plan.fresh ? model : free_name(model, line, plan.number));
  store::StoredRevision revision{model, plan.number, spec_json, runs_as, entry.memory_estimated, entry.updated_unix_ms,
                                 0,     ""};
  if (const auto* const before = line.find(plan.number)) {
    revision.created_unix_ms = before->created_unix_ms;
    revision.served_unix_ms = before->served_unix_ms;
  }
  const bool beside = plan.succession == Succession::beside;
  if (!beside) revision.served_unix_ms = net::unix_ms();
  plan.change.models.push_back(stored_model(entry, runs_as));
  if (active != nullptr && !serving_entry && active->runs_as != runs_as) plan.change.ended.push_back(active->runs_as);
  plan.change.rollout = store::StoredRollout{model, plan.number, 0, 0, 0};
  if (beside)
    plan.change.rollout = store::StoredRollout{model, line.active, plan.number, settings.percent,
                                               base::duration_cast<base::Millis>(settings.timeout).count()};
  plan.change.revisions.push_back(std::move(revision));
  std::vector<std::uint32_t> numbers;
  for (const auto& [number, kept] : line.revisions) numbers.push_back(number);
  if (line.find(plan.number) == nullptr) numbers.push_back(plan.number);
  std::sort(numbers.begin(), numbers.end());
  plan.change.forgotten =
      control::surplus_revisions(numbers, {line.active, line.candidate, plan.number}, control::kKeptRevisions);
  plan.timeout = settings.timeout;
  plan.entry = std::move(entry);
  plan.entry.spec.name = runs_as;
  return plan;
}

void Rollouts::put_in_books(const ModelEntry& entry, bool must_start, bool told) {
  ModelEntry put = entry;
  put.alias_names.clear();  // made anew from its spec
  put.takes_over = must_start;
  if (must_start) put.spec.scaling.min_replicas = std::max<std::uint32_t>(1, put.spec.scaling.min_replicas);
  in_.controller.deploy(std::move(put), told);
}

/// Into the log and among the model's events. It has to be in the books.
void Rollouts::tell(const ModelName& model, Kind kind, control::Rule rule, std::string what,
                    std::optional<base::Duration> took) {
  if (kind == Kind::takeover_failed)
    spdlog::error("{}: {}", model.str(), what);
  else
    spdlog::info("{}: {}", model.str(), what);
  in_.controller.note(serving(model), {.kind = kind, .reason = std::move(what), .cause = {rule, {}}, .took = took});
}

void Rollouts::carry_out(Plan plan) {
  const ModelName model = plan.change.rollout.model;
  RolloutLine& line = lines_[model];
  // The newest deploy counts: one that was on its way is given up, also if the new one needs no engines of its own.
  if (line.candidate != 0) give_up(model, line, fmt::format("revision {} was deployed", plan.number), Kind::given_up);
  const ModelName before = serving(model);
  for (const store::StoredRevision& revision : plan.change.revisions) line.revisions[revision.number] = revision;
  for (const std::uint32_t number : plan.change.forgotten) line.revisions.erase(number);
  line.next_number = std::max(line.next_number, plan.number + 1);
  if (plan.succession == Succession::beside) {
    begin(line, plan);
  } else {
    const ModelName after = plan.entry.spec.name;
    const std::uint32_t number_before = std::exchange(line.active, plan.number);
    line.last_failure.clear();
    put_in_books(plan.entry, false, true);
    if (number_before != 0 && !plan.unchanged)
      tell(model, Kind::took_over, control::Rule::by_hand,
           why_of(plan) + took_over(plan.succession, plan.number, number_before));
    in_.model_files.deployed(after, plan.files);
    if (before != after && in_.controller.find(before) != nullptr) retire(line, before);
  }
  // Something may have happened by itself, and been stored, between the plan and now.
  store({stored(model, line), {}, {}, {line.revisions.at(plan.number)}, {}});
  const auto serves = in_.controller.share(serving(model).str());
  if (serves) follow_adapters(serves->spec.is_adapter() ? base_of(serves->spec) : model);
}

void Rollouts::begin(RolloutLine& line, Plan& plan) {
  const ModelName& runs_as = plan.entry.spec.name;
  line.candidate = plan.number;
  line.percent = plan.change.rollout.percent;
  line.stage = RolloutStage::starting;
  line.begun = in_.loop.now();
  line.timeout = plan.timeout;
  line.deadline = line.begun + plan.timeout;
  line.coming = std::make_shared<ModelEntry>(plan.entry);
  tell(base::model_of(runs_as), Kind::takeover, control::Rule::by_hand,
       fmt::format("{}revision {} starts beside revision {}, which serves until it is ready (at most {}){}",
                   why_of(plan), plan.number, line.active, base::format_duration(plan.timeout),
                   line.percent < 100 ? fmt::format("; then it gets {}% of the requests", line.percent) : ""));
  put_in_books(plan.entry, true, true);
  in_.model_files.deployed(runs_as, plan.files);
  arm(kLook);
}

void Rollouts::promote(const ModelName& model, RolloutLine& line) {
  const ModelName before = serving(model);
  store::StoredRevision& revision = line.revisions.at(line.candidate);
  revision.served_unix_ms = net::unix_ms();
  revision.failure.clear();
  line.active = line.candidate;
  line.candidate = line.percent = 0;
  const bool was_split = std::exchange(line.stage, RolloutStage::none) == RolloutStage::split;
  line.last_failure.clear();
  put_in_books(*std::exchange(line.coming, nullptr), false);
  if (was_split)
    tell(model, Kind::took_over, control::Rule::by_hand,
         fmt::format("revision {} serves: it was given all requests", line.active));
  else
    tell(model, Kind::took_over, control::Rule::none,
         fmt::format("revision {} serves: a replica of it is ready", line.active), in_.loop.now() - line.begun);
  store({stored(model, line), {}, {}, {revision}, {}});
  if (before != revision.runs_as) retire(line, before);
}

void Rollouts::give_up(const ModelName& model, RolloutLine& line, const std::string& why, Kind kind) {
  const std::uint32_t number = line.candidate;
  const bool shared = line.stage == RolloutStage::split;
  line.candidate = line.percent = 0;
  line.stage = RolloutStage::none;
  line.coming = nullptr;
  const auto found = line.revisions.find(number);
  if (found == line.revisions.end()) return;
  found->second.failure = why;
  if (kind == Kind::takeover_failed)
    tell(model, kind, control::Rule::failure, why, in_.loop.now() - line.begun);
  else
    tell(model, kind, control::Rule::by_hand,
         fmt::format("revision {} is given up: {}; revision {} goes on serving", number, why, line.active));
  const ModelName runs_as = found->second.runs_as;
  store({stored(model, line), {}, {}, {found->second}, {}});
  // Requests for an adapter that the one that serves has not wait for it already.
  const auto views = in_.controller.scheduler().models();
  const auto* const view = view_of(views, runs_as);
  if (shared || (view != nullptr && !control::has_drained(*view)))
    retire(line, runs_as);
  else
    end(model, line, runs_as);
}

/// It gets no new requests. Those that wait for it or run on it are answered, then it ends.
void Rollouts::retire(RolloutLine& line, const ModelName& runs_as) {
  if (const ModelEntry* const entry = in_.controller.find(runs_as);
      entry != nullptr && entry->spec.scaling.min_replicas > 0) {
    ModelEntry last = *entry;
    last.alias_names.clear();
    last.spec.scaling.min_replicas = 0;
    in_.controller.deploy(std::move(last), false);
  }
  if (line.retiring.size() >= kMaxRetiring) {
    const ModelName oldest = line.retiring.front();
    tell(base::model_of(oldest), Kind::drained, control::Rule::none,
         fmt::format("revision {} is cut off: too many still answer their last requests", number_under(line, oldest)));
    end(base::model_of(oldest), line, oldest);
  }
  line.retiring.push_back(runs_as);
  arm({});
}

void Rollouts::end(const ModelName& model, RolloutLine& line, const ModelName& runs_as) {
  std::erase(line.retiring, runs_as);
  in_.controller.remove(runs_as);
  in_.model_files.removed(runs_as);
  store({stored(model, line), {}, {runs_as}, {}, {}});
}

void Rollouts::look() {
  const auto views = in_.controller.scheduler().models();
  bool under_way = false;
  for (auto& [model, line] : lines_) {
    for (const ModelName& runs_as : std::vector<ModelName>(line.retiring)) {
      const auto* const view = view_of(views, runs_as);
      if (view != nullptr && !control::has_drained(*view)) continue;
      tell(model, Kind::drained, control::Rule::none,
           fmt::format("nothing waits for revision {} any more: its replicas end", number_under(line, runs_as)));
      end(model, line, runs_as);
    }
    if (line.stage == RolloutStage::starting) {
      const ModelName runs_as = line.revisions.at(line.candidate).runs_as;
      const auto* const view = view_of(views, runs_as);
      const std::uint32_t number = line.candidate;
      switch (view == nullptr ? control::RolloutStep::fail
                              : next_step(line.stage, line.percent, *view, line.deadline, in_.loop.now())) {
        case control::RolloutStep::wait:
          break;
        case control::RolloutStep::promote:
          promote(model, line);
          break;
        case control::RolloutStep::share:
          line.stage = RolloutStage::split;
          line.last_failure.clear();
          put_in_books(*line.coming, false);
          tell(model, Kind::split, control::Rule::none,
               fmt::format("revision {} is ready and gets {}% of the requests, revision {} the others", number,
                           line.percent, line.active),
               in_.loop.now() - line.begun);
          break;
        case control::RolloutStep::fail:
          line.last_failure =
              fmt::format("revision {} did not become ready{}{}; revision {} goes on serving", number,
                          in_.loop.now() >= line.deadline ? " in time" : "", last_words(view), line.active);
          give_up(model, line, line.last_failure, Kind::takeover_failed);
          break;
      }
    }
    under_way = under_way || line.stage == RolloutStage::starting || !line.retiring.empty();
  }
  if (under_way) arm(kLook);
}

void Rollouts::arm(base::Duration in) {
  const base::TimePoint at = in_.loop.now() + in;
  if (at < timer_.deadline()) timer_.arm(at);
}

/// What happened by itself is stored behind what was stored before; a restart that misses it finds the same again.
void Rollouts::store(store::RolloutChange change) {
  const bool taken = in_.store_worker.submit([&store = in_.store, change = std::move(change)] {
    if (const base::Status stored = store.change_rollout(change); !stored.ok())
      spdlog::error("{}", stored.error().message);
  });
  if (!taken) spdlog::error("what became of a revision is not stored: the disk cannot keep up");
}

base::Result<store::RolloutChange> Rollouts::plan_percent(const ModelName& model, std::uint32_t percent) const {
  const RolloutLine* const line = find(model);
  if (line == nullptr || line->candidate == 0)
    return Error{ErrorKind::conflict,
                 fmt::format("no second revision of {} is on its way; `thaw rollout {} --to N --percent P` begins one",
                             base::public_name(model), base::public_name(model))};
  store::StoredRollout rollout = stored(model, *line);
  rollout.percent = percent;
  return store::RolloutChange{rollout, {}, {}, {}, {}};
}

void Rollouts::set_percent(const ModelName& model, std::uint32_t percent, const std::string& why) {
  const auto found = lines_.find(model);
  if (found == lines_.end() || found->second.candidate == 0) return;  // it ended meanwhile
  RolloutLine& line = found->second;
  if (percent == 0) return give_up(model, line, why, Kind::given_up);
  line.percent = percent;
  if (line.stage == RolloutStage::split && percent >= 100) return promote(model, line);
  tell(model, Kind::split, control::Rule::by_hand,
       line.stage == RolloutStage::split
           ? fmt::format("revision {} gets {}% of the requests, revision {} the others", line.candidate, percent,
                         line.active)
           : fmt::format("revision {} is to get {}% of the requests once it is ready", line.candidate, percent));
}

bool Rollouts::remove(const ModelName& model) {
  const auto found = lines_.find(model);
  const auto entry = in_.controller.share(serving(model).str());
  std::vector<ModelName> names{model};
  if (found != lines_.end()) {
    for (const auto& [number, revision] : found->second.revisions) names.push_back(revision.runs_as);
    names.insert(names.end(), found->second.retiring.begin(), found->second.retiring.end());
    lines_.erase(found);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  bool any = false;
  for (const ModelName& name : names) {
    any = in_.controller.remove(name) || any;
    in_.model_files.removed(name);
  }
  if (entry && entry->spec.is_adapter()) follow_adapters(base_of(entry->spec));
  return any;
}

}  // namespace thaw::controller
