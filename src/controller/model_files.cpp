#include "controller/model_files.h"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "base/units.h"
#include "spec/parse.h"

namespace thaw::controller {

using base::ModelName;
using net::unix_ms;
using store::StoredFile;

ModelFiles::ModelFiles(Surroundings surroundings) : in_(std::move(surroundings)) { in_.controller.tell_of_files(this); }

ModelFiles::~ModelFiles() { in_.controller.tell_of_files(nullptr); }

base::Status ModelFiles::load() {
  THAW_ASSIGN_OR_RETURN(const auto stored, in_.store.model_files());
  for (const auto& [model, files] : stored) {
    for (const StoredFile& file : files) {
      if (file.changed_unix_ms == 0)
        files_[model].push_back({file, std::nullopt, false});
      else if (KnownFile* const known = find(model, file.path))
        known->changed = file;
    }
  }
  return {};
}

void ModelFiles::save(const ModelName& model) {
  std::vector<StoredFile> rows;
  for (const KnownFile& file : files_[model]) rows.push_back(file.deployed);
  for (const KnownFile& file : files_[model])
    if (file.changed) rows.push_back(*file.changed);
  const bool taken = in_.store_worker.submit([&store = in_.store, model, rows = std::move(rows)] {
    if (const auto put = store.put_model_files(model, rows); !put.ok()) spdlog::error("{}", put.error().message);
  });
  if (!taken) spdlog::warn("{}: what is known of its files is not stored this time: the disk cannot keep up", model.str());
}

void ModelFiles::deployed(const ModelName& model, const std::vector<wire::FileStamp>& files) {
  files_[model] = files_as_deployed(files_[model], files);
  save(model);
}

void ModelFiles::removed(const ModelName& model) { files_.erase(model); }

const std::vector<KnownFile>& ModelFiles::files(const ModelName& model) const {
  static const std::vector<KnownFile> kNone;
  const auto found = files_.find(model);
  return found == files_.end() ? kNone : found->second;
}

std::size_t ModelFiles::changed_files(const ModelName& model) const {
  const auto& all = files(model);
  return static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [](const KnownFile& file) { return file.changed || file.gone; }));
}

std::size_t ModelFiles::models_with_changed_files() const {
  return static_cast<std::size_t>(
      std::count_if(files_.begin(), files_.end(), [this](const auto& model) { return changed_files(model.first) > 0; }));
}

KnownFile* ModelFiles::find(const ModelName& model, const std::string& path) {
  const auto found = files_.find(model);
  if (found == files_.end()) return nullptr;
  for (KnownFile& file : found->second)
    if (file.deployed.path == path) return &file;
  return nullptr;
}

// --- what nodes see

void ModelFiles::files_seen(const ModelName& model, const std::vector<wire::FileStamp>& seen) {
  if (in_.controller.find(model) == nullptr) return;
  std::vector<KnownFile>& known = files_[model];
  std::vector<KnownFile> now;
  bool changed = known.size() != seen.size();
  for (const wire::FileStamp& stamp : seen) {
    KnownFile* const before = find(model, stamp.path);
    if (before == nullptr) {
      changed = true;
      now.push_back(files_as_deployed({}, {stamp}).front());
      continue;
    }
    if (const std::string difference = see_file(*before, stamp, unix_ms()); !difference.empty()) {
      changed = true;
      in_.metrics.file_changed(model.str());
      spdlog::warn("{}: {} is not what it was: {}; it is taken as it is now (`thaw verify {}` compares it with what was deployed)",
                   model.str(), stamp.path, difference, model.str());
      in_.controller.file_differs(model, stamp.path + " changed: " + difference);
    }
    now.push_back(*before);
  }
  if (!changed) return;
  const bool first = known.empty();
  known = std::move(now);
  save(model);
  if (!first) recheck(model);
}

void ModelFiles::files_changed(const ModelName& model, const wire::FilesChanged& change) {
  const std::string& path = change.file.path;
  KnownFile* const file = find(model, path);
  if (change.gone) {
    spdlog::warn("{}: {} is gone; replicas that have it go on, but none can be started until it is back", model.str(), path);
    if (file != nullptr) file->gone = true;
    return;
  }
  spdlog::warn("{}: {} changed under instance {}: {}; the instance is replaced", model.str(), path, change.instance.value(), change.detail);
  if (file == nullptr || see_file(*file, change.file, unix_ms()).empty()) return;  // another replica saw it first
  in_.metrics.file_changed(model.str());
  save(model);
  recheck(model);
}

/// The new file may need more memory than the old one, or less.
void ModelFiles::recheck(const ModelName& model) {
  const auto entry = in_.controller.share(model.str());
  if (entry == nullptr) return;
  // The worker may outlive this object, though not the loop; what is posted runs while it lives.
  const bool taken = in_.files_worker.submit([this, entry, inspect = in_.inspect, &loop = in_.loop] {
    auto facts = inspect(entry->spec);
    loop.post([this, entry, facts = std::move(facts)] { rechecked(entry, facts); });
  });
  if (!taken) spdlog::warn("{}: its new file is not looked into: too much waits to be read", model.str());
}

void ModelFiles::rechecked(const std::shared_ptr<ModelEntry>& before, const base::Result<node::ModelFacts>& facts) {
  const std::string& name = before->spec.name.str();
  if (in_.controller.share(name) != before) return;  // deployed again, or removed
  if (!facts.ok()) {
    spdlog::error("{}: its new file cannot be served: {}", name, facts.error().message);
    return;
  }
  const std::uint64_t held = before->spec.resources.device_memory_bytes.value_or(0);
  const std::uint64_t needed = before->memory_estimated ? facts->estimated_device_bytes : held;
  const std::uint64_t loaded_with = before->spec.resources.loading_memory_bytes.value_or(0);
  const std::uint64_t loads_with = before->memory_estimated ? facts->estimated_loading_bytes : loaded_with;
  if (facts->weights_bytes == before->weights_bytes && needed == held && loads_with == loaded_with) return;
  ModelEntry entry = *before;
  entry.weights_bytes = facts->weights_bytes;
  entry.spec.resources.device_memory_bytes = needed;
  entry.spec.resources.loading_memory_bytes = loads_with;
  if (needed != held || loads_with != loaded_with) {
    spdlog::info("{}: its new file needs {} a replica instead of {}", name, base::format_bytes(needed), base::format_bytes(held));
    if (const auto fits = in_.controller.can_ever_run(entry.spec); !fits.ok()) spdlog::error("{}: {}", name, fits.error().message);
    store::StoredModel stored{entry.spec.name, spec::to_json(entry.spec), entry.created_unix_ms, entry.updated_unix_ms, true};
    const bool taken = in_.store_worker.submit([&store = in_.store, stored = std::move(stored)] {
      if (const auto put = store.put_model(stored); !put.ok()) spdlog::error("{}", put.error().message);
    });
    if (!taken) spdlog::warn("{}: its new estimate is not stored: the disk cannot keep up", name);
  }
  in_.controller.deploy(std::move(entry));
}

// --- digests

void ModelFiles::model_loaded(const ModelName& model) {
  for (const KnownFile& file : files(model)) {
    const std::string& path = file.deployed.path;
    const bool asked = std::any_of(questions_.begin(), questions_.end(), [&](const auto& question) {
      return question.second.model == model && question.second.path == path && question.second.verification == nullptr;
    });
    if (file.current().sha256.empty() && !asked) ask({model, path, nullptr});
  }
}

void ModelFiles::ask(Question question) {
  wire::HashFile command{next_question_++, question.path, question.verification != nullptr};
  questions_.emplace(command.id, std::move(question));
  in_.send(std::move(command));
}

void ModelFiles::file_hashed(const wire::FileHashed& answer) {
  const auto found = questions_.find(answer.id);
  if (found == questions_.end()) return;
  const Question question = std::move(found->second);
  questions_.erase(found);
  if (question.verification == nullptr) return take_background(question, answer);

  KnownFile* const file = find(question.model, question.path);
  if (file == nullptr) {
    question.verification->status = base::Error{base::ErrorKind::conflict, "the model was removed or deployed again meanwhile"};
    question.verification->done = true;
    return;
  }
  FileVerdict verdict = judge_file(*file, answer, unix_ms());
  if (!verdict.good()) {
    in_.metrics.file_not_verified(question.model.str());
    spdlog::warn("{}: {} is {}: {} (SHA-256 {}, recorded {})", question.model.str(), verdict.path, to_string(verdict.outcome),
                 verdict.detail, verdict.sha256, verdict.recorded_sha256);
  }
  question.verification->verdicts.push_back(std::move(verdict));
  save(question.model);
  verify_next(question.model, question.verification);
}

void ModelFiles::take_background(const Question& question, const wire::FileHashed& answer) {
  KnownFile* const file = find(question.model, question.path);
  if (file == nullptr) return;
  if (answer.sha256.empty()) {
    spdlog::info("{}: no digest of {} this time: {}", question.model.str(), question.path, answer.error);
    return;
  }
  const bool was_changed = file->changed.has_value();
  if (!take_digest(*file, answer, unix_ms())) return;  // the next start has it hashed
  if (was_changed && !file->changed)
    spdlog::info("{}: {} has the same bytes as when it was deployed", question.model.str(), question.path);
  else if (was_changed)
    spdlog::warn("{}: {} has SHA-256 {} now, and had {} when the model was deployed", question.model.str(), question.path, answer.sha256,
                 file->deployed.sha256.empty() ? "an unknown one" : file->deployed.sha256);
  save(question.model);
}

// --- thaw verify

base::Result<std::shared_ptr<const Verification>> ModelFiles::verify(const ModelName& model) {
  if (in_.controller.find(model) == nullptr)
    return base::Error{base::ErrorKind::not_found, "there is no model \"" + model.str() + "\"; `thaw ls` lists them"};
  const auto under_way = std::count_if(questions_.begin(), questions_.end(),
                                       [](const auto& question) { return question.second.verification != nullptr; });
  if (static_cast<std::size_t>(under_way) >= kMaxVerifications)
    return base::Error{base::ErrorKind::exhausted, "too many models are being verified; try again later"};
  auto verification = std::make_shared<Verification>();
  std::shared_ptr<const Verification> seen_by_caller = verification;
  if (files(model).empty()) {
    inspect_for(model, verification);
  } else {
    verify_next(model, verification);
  }
  return seen_by_caller;
}

/// Asks for the next file, unless all are through or nobody waits any more.
void ModelFiles::verify_next(const ModelName& model, const VerificationPtr& verification) {
  const auto& all = files(model);
  const std::size_t next = verification->verdicts.size();
  if (next >= all.size()) {
    verification->done = true;
  } else if (verification.use_count() > 1) {
    ask({model, all[next].deployed.path, verification});
  }
}

/// Of a model that was deployed before files were recorded, and not loaded since.
void ModelFiles::inspect_for(const ModelName& model, const VerificationPtr& verification) {
  const auto entry = in_.controller.share(model.str());
  const bool taken = in_.files_worker.submit([this, entry, verification, inspect = in_.inspect, &loop = in_.loop] {
    auto facts = inspect(entry->spec);
    loop.post([this, entry, verification, facts = std::move(facts)] {
      const ModelName& name = entry->spec.name;
      if (!facts.ok()) {
        verification->status = facts.error();
        verification->done = true;
        return;
      }
      if (in_.controller.share(name.str()) == entry && files(name).empty()) deployed(name, facts->files);
      verify_next(name, verification);
    });
  });
  if (taken) return;
  verification->status = base::Error{base::ErrorKind::exhausted, "too much waits to be read; try again later"};
  verification->done = true;
}

}  // namespace thaw::controller
