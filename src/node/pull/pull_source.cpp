#include "node/pull/pull_source.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include <fmt/format.h>

#include "base/units.h"
#include "node/pull/hub.h"
#include "node/sandbox/clock.h"
#include "spec/source_ref.h"

namespace thaw::node::pull {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::size_t kMaxListing = 32U << 20;
constexpr auto kStep = base::Millis(100);

std::int64_t unix_ms_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// What is going to be fetched.
struct Files {
  std::vector<FileOrder> orders;
  std::string main;
  std::string revision;
};

/// An answer of the hub's API, with retries.
class HubQuestion {
 public:
  HubQuestion(const PullRun& run, std::string url, const std::string& about) : run_(run), url_(std::move(url)), about_(about) {}

  base::Result<std::string> ask() {
    for (std::uint32_t attempt = 1;; ++attempt) {
      ask_once();
      if (run_.cancelled) return Error{ErrorKind::unavailable, "stopped"};
      if (!trouble_) return std::move(body_);
      if (!trouble_->passing || attempt > run_.options.limits.backoff.tries) return trouble_->error;
      const base::Duration asked = retry_after_.value_or(base::Duration::zero());
      if (asked > run_.options.limits.longest_retry_after)
        return Error{trouble_->error.kind,
                     fmt::format("{} and asks to be left alone for {}; pull it again then", trouble_->error.message, base::format_duration(asked))};
      wait(std::max(asked, wait_before(run_.options.limits.backoff, attempt)));
    }
  }

 private:
  void ask_once() {
    body_.clear();
    trouble_.reset();
    retry_after_.reset();
    bool ended = false;
    const auto transfer = run_.fetcher.begin({url_, run_.options.hub_token, std::nullopt, {}},
                                             {[this](const Answer& answer) { return take(answer); },
                                              [this](std::string_view bytes) {
                                                body_ += bytes;
                                                if (body_.size() <= kMaxListing) return true;
                                                trouble_ = Trouble{{ErrorKind::invalid, "the hub's answer has no end"}, false};
                                                return false;
                                              },
                                              [this, &ended](std::optional<Trouble> trouble) {
                                                if (trouble) trouble_ = std::move(trouble);
                                                ended = true;
                                              }});
    while (!ended && !run_.cancelled) run_.fetcher.step(kStep);
  }

  bool take(const Answer& answer) {
    if (answer.status == 200) return true;
    const std::string said = answer.error_message.empty() ? "" : ": " + answer.error_message;
    retry_after_ = answer.retry_after;
    switch (answer.status) {
      case 401:
      case 403:
        trouble_ =
            Trouble{{ErrorKind::denied,
                     fmt::format("the hub does not show {} (HTTP {}{}): there is no such repository, or it needs {}", about_, answer.status, said,
                                 run_.options.hub_token.empty() ? "a token: set HF_TOKEN in the environment of `thaw serve`, or sources.hfTokenFile"
                                                                : "its owner's consent for the token in use: ask for it on the model's page")},
                    false};
        return false;
      case 404:
        trouble_ = Trouble{
            {ErrorKind::not_found, fmt::format("the hub has no {} (HTTP 404{}); look for a typing error in repository and revision", about_, said)},
            false};
        return false;
      default: {
        const bool passing = answer.status == 429 || answer.status >= 500;
        trouble_ = Trouble{
            {passing ? ErrorKind::unavailable : ErrorKind::invalid, fmt::format("the hub answers with HTTP {}{}", answer.status, said)}, passing};
        return false;
      }
    }
  }

  void wait(base::Duration duration) {
    const base::TimePoint end = now() + duration;
    while (now() < end && !run_.cancelled) run_.fetcher.step(kStep);
  }

  const PullRun& run_;
  const std::string url_;
  const std::string about_;
  std::string body_;
  std::optional<Trouble> trouble_;
  std::optional<base::Duration> retry_after_;
};

base::Result<Files> files_of_hub(const PullRun& run) {
  THAW_ASSIGN_OR_RETURN(const spec::HubRef ref, spec::parse_hub_ref(run.order.source.hf));
  const std::string about = ref.repo + " at " + ref.revision;
  THAW_ASSIGN_OR_RETURN(const std::string text, HubQuestion(run, run.options.hub_endpoint + listing_path(ref), about).ask());
  THAW_ASSIGN_OR_RETURN(const HubListing listing, parse_listing(text));
  THAW_ASSIGN_OR_RETURN(const Selection selection, select_files(listing, ref, run.order.directory_wanted));
  Files files;
  files.main = selection.main;
  files.revision = listing.commit;
  for (const HubFile& file : selection.files) {
    const std::string name = file.path.substr(file.path.rfind('/') + 1);
    files.orders.push_back({ref.repo + "/" + file.path, run.options.hub_endpoint + file_path(ref.repo, listing.commit, file.path),
                            run.options.hub_token, name, file.bytes, file.sha256, file.git_blob});
  }
  return files;
}

/// A name that an engine is shown, from whatever an URL ends in.
std::string safe_name(const std::string& name) {
  constexpr std::size_t kLongest = 200;
  std::string safe;
  for (const char c : name) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("._-+=").find(c) != std::string_view::npos;
    safe += plain ? c : '_';
  }
  while (safe.starts_with('.')) safe.erase(0, 1);
  if (safe.size() > kLongest) safe.erase(0, safe.size() - kLongest);
  return safe.empty() ? "model.gguf" : safe;
}

base::Result<Files> files_of_url(const PullRun& run) {
  const spec::Source& source = run.order.source;
  THAW_ASSIGN_OR_RETURN(const spec::Url url, spec::parse_url(source.url));
  const std::string name = url.file_name();
  Files files;
  files.main = safe_name(name);
  const auto split = spec::split_name(name);
  if (!split) {
    files.orders.push_back({source.url, source.url, "", files.main, std::nullopt, source.sha256, ""});
    return files;
  }
  if (split->part != 1) return Error{ErrorKind::invalid, fmt::format("{} is not the first part of its model; name {}", name, split->name(1))};
  const std::size_t at = source.url.rfind(name);
  if (at == std::string::npos)
    return Error{ErrorKind::invalid, fmt::format("the parts of {} cannot be told from its URL; write the file's name without % in it", name)};
  for (std::uint32_t part = 1; part <= split->count; ++part) {
    std::string part_url = source.url;
    part_url.replace(at, name.size(), split->name(part));
    files.orders.push_back({part_url, part_url, "", safe_name(split->name(part)), std::nullopt, "", ""});
  }
  return files;
}

/// What a pull needs of the disk beyond what is there, asked before the first byte: nobody wants to learn it after 200 GB.
base::Status find_room(const PullRun& run, const Files& files) {
  std::uint64_t missing = 0;
  std::uint64_t there = 0;
  for (const FileOrder& order : files.orders) {
    if (!order.expected_bytes || (!order.expected_sha256.empty() && run.store.has_blob(order.expected_sha256))) continue;
    missing += *order.expected_bytes;
    there += run.store.part_bytes(part_key(order));
  }
  const std::string holder = "whole " + spec::to_string(run.order.source);
  const base::Status room = run.store.reserve(holder, missing - std::min(missing, there));
  run.store.release(holder);
  return room;
}

/// Lets gc know what is needed, for as long as it lives.
class Held {
 public:
  explicit Held(BlobStore& store) : store_(store) {}
  ~Held() {
    for (const std::string& name : names_) store_.let_go(name);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  void add(const std::string& name) {
    store_.hold(name);
    names_.push_back(name);
  }

 private:
  BlobStore& store_;
  std::vector<std::string> names_;
};

}  // namespace

base::Result<PulledSet> pull_source(const PullRun& run) {
  const spec::Source& source = run.order.source;
  const std::string text = source_text(source, run.order.directory_wanted);
  Held held(run.store);
  held.add(text);
  if (!run.order.refresh) {
    if (auto known = run.store.find(source, run.order.directory_wanted)) {
      run.progress.total_bytes = known->bytes();
      run.progress.done_bytes = known->bytes();
      return *std::move(known);
    }
  }
  run.tell(PullState::resolving, "");
  THAW_ASSIGN_OR_RETURN(Files files, source.hf.empty() ? files_of_url(run) : files_of_hub(run));
  for (const FileOrder& order : files.orders) {
    if (!order.expected_sha256.empty()) held.add(order.expected_sha256);
    run.progress.total_bytes += order.expected_bytes.value_or(0);
  }
  if (const base::Status room = find_room(run, files); !room.ok()) return room.error().within("no room for it");
  PulledSet set{text, files.revision, files.main, {}, unix_ms_now()};
  for (FileOrder& order : files.orders) {
    run.tell(PullState::fetching, order.name);
    FileFetch fetch(std::move(order), run.fetcher, run.store, run.progress, run.options.limits, run.cancelled);
    THAW_ASSIGN_OR_RETURN(PulledFile file, fetch.run());
    held.add(file.sha256);
    set.files.push_back(std::move(file));
  }
  std::sort(set.files.begin(), set.files.end(), [](const PulledFile& a, const PulledFile& b) { return a.name < b.name; });
  for (std::size_t i = 1; i < set.files.size(); ++i)
    if (set.files[i].name == set.files[i - 1].name)
      return Error{ErrorKind::invalid, fmt::format("two of its files are called {}; name one of them", set.files[i].name)};
  THAW_RETURN_IF_ERROR(run.store.keep_set(set));
  return set;
}

}  // namespace thaw::node::pull
