#include "audit/audit_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "audit/segments.h"
#include "audit/tenant_seals.h"
#include "audit/verify.h"
#include "unit/audit/files.h"

namespace thaw::audit {
namespace {

class AuditLogTest : public testing::Test {
 protected:
  LogOptions options() {
    LogOptions o;
    o.directory = dir_.file("audit");
    o.export_path = dir_.file("anchors.jsonl");
    o.export_interval = base::Millis(1);
    o.unix_ms = [this] { return now_ms_.load(); };
    o.warn = [this](const std::string& text) {
      const std::lock_guard lock(warnings_mutex_);
      warnings_ += text + "\n";
    };
    return o;
  }
  std::unique_ptr<AuditLog> open() { return open(options()); }
  static std::unique_ptr<AuditLog> open(LogOptions o) {
    auto log = AuditLog::open(std::move(o));
    EXPECT_TRUE(log.ok()) << log.error().message;
    return log.ok() ? std::move(*log) : nullptr;
  }
  static Record act(const std::string& subject, Event event = Event::done, const std::string& request = "r") {
    Record record;
    record.event = event;
    record.action = "model.stop";
    record.who = "key:1";
    record.subject = subject;
    record.request = request;
    return record;
  }
  void write(int count) {
    auto log = open();
    for (int i = 0; i < count; ++i) ASSERT_TRUE(log->write(act("m" + std::to_string(i))).ok());
  }
  Report verified(const std::string& anchor = {}) {
    const auto report = verify({dir_.file("audit"), anchor, {}});
    EXPECT_TRUE(report.ok()) << report.error().message;
    return report.ok() ? *report : Report{};
  }
  /// "kind:line:seq" of each finding.
  static std::string kinds(const Report& report) {
    std::string text;
    for (const Finding& finding : report.findings)
      text += (text.empty() ? "" : " ") + finding.kind + ":" + std::to_string(finding.line) + ":" +
              std::to_string(finding.seq);
    return text;
  }
  std::vector<std::string> segments() {
    std::vector<std::string> paths;
    const auto found = list_segments(dir_.file("audit"));
    EXPECT_TRUE(found.ok());
    if (found.ok())
      for (const Segment& segment : *found) paths.push_back(segment.path);
    return paths;
  }
  std::string segment() { return segments().at(0); }
  std::vector<Record> records() {
    std::vector<Record> all;
    for (const std::string& path : segments())
      for (const std::string& line : lines_of(read_file(path))) {
        auto record = decode(line);
        EXPECT_TRUE(record.ok()) << line;
        if (record.ok()) all.push_back(std::move(*record));
      }
    return all;
  }

  TempDir dir_;
  std::atomic<std::int64_t> now_ms_{1'764'100'399'123};
  std::mutex warnings_mutex_;
  std::string warnings_;
};

TEST_F(AuditLogTest, WhatIsATenantsOwnIsSealedAndCanBeForgotten) {
  {
    auto log = open();
    Record mine = act("m");
    mine.from = "10.0.0.7";
    mine.private_to = "acme";
    Record operators = act("n");
    operators.from = "10.0.0.8";
    ASSERT_TRUE(log->write(mine).ok());
    ASSERT_TRUE(log->write(operators).ok());
  }
  const auto all = records();
  ASSERT_EQ(all.size(), 4U);
  EXPECT_EQ(all[2].from, "10.0.0.8");
  EXPECT_EQ(read_file(segment()).find("10.0.0.7"), std::string::npos);
  const auto readable = [&] {
    auto seals = TenantSeals::open(dir_.file("audit") + "/seals", true);
    EXPECT_TRUE(seals.ok());
    return seals->open_text(all[1].from);
  };
  EXPECT_EQ(readable(), "10.0.0.7");
  {
    auto log = open();
    EXPECT_TRUE(*log->shred("acme"));
    EXPECT_FALSE(*log->shred("acme"));
  }
  EXPECT_FALSE(readable());
  const Report report = verified(dir_.file("anchors.jsonl"));
  EXPECT_TRUE(report.ok()) << "the log is as whole as before: " << kinds(report);
}

TEST_F(AuditLogTest, WhatWasWrittenStandsInItInOrder) {
  write(3);
  const auto all = records();
  ASSERT_EQ(all.size(), 5U);
  EXPECT_EQ(all[0].action, "log.open");
  EXPECT_EQ(all[0].prev, first_prev());
  EXPECT_EQ(all[4].action, "log.close");
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].seq, i + 1);
    if (i > 0) {
      EXPECT_EQ(all[i].prev, all[i - 1].hash);
    }
  }
  EXPECT_EQ(all[2].subject, "m1");
  EXPECT_EQ(all[2].unix_ms, now_ms_);
  const Report report = verified(dir_.file("anchors.jsonl"));
  EXPECT_TRUE(report.ok()) << kinds(report);
  EXPECT_EQ(report.records, 5U);
  EXPECT_GE(report.heads_matched, 2U);  // beside the log and exported
  struct stat status {};
  ASSERT_EQ(stat(dir_.file("audit").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
  ASSERT_EQ(stat(segment().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST_F(AuditLogTest, ManyWritersAreOneChain) {
  {
    auto log = open();
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&log, t] {
        for (int i = 0; i < 50; ++i) EXPECT_TRUE(log->write(act(std::to_string(t))).ok());
      });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(log->written(), 201U);
  }
  const Report report = verified();
  EXPECT_TRUE(report.ok()) << kinds(report);
  EXPECT_EQ(report.records, 202U);
}

TEST_F(AuditLogTest, OnlyOneProcessWrites) {
  const auto log = open();
  const auto second = AuditLog::open(options());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, base::ErrorKind::conflict);
}

TEST_F(AuditLogTest, TamperingIsFoundWhereItIs) {
  write(6);  // eight records
  const std::string whole = read_file(segment());
  const auto lines = lines_of(whole);
  ASSERT_EQ(lines.size(), 8U);
  const auto with = [&](std::vector<std::string> changed) {
    write_file(segment(), joined(changed));
    return kinds(verified());
  };
  auto changed = lines;
  changed[3].replace(changed[3].find("m2"), 2, "m9");
  EXPECT_EQ(with(changed), "altered:4:4");

  changed = lines;  // with a hash that is right again
  Record forged = *decode(lines[3]);
  forged.subject = "m9";
  changed[3] = encode(forged);
  EXPECT_EQ(with(changed), "altered:5:5");

  changed = lines;
  changed.erase(changed.begin() + 3);
  EXPECT_EQ(with(changed), "gap:4:4");

  changed = lines;
  changed.erase(changed.begin());
  EXPECT_EQ(with(changed), "gap:0:1");

  changed = lines;
  std::swap(changed[3], changed[4]);
  EXPECT_EQ(with(changed), "gap:4:4 reordered:5:4");

  changed = lines;
  changed.insert(changed.begin() + 5, changed[2]);
  EXPECT_EQ(with(changed), "repeated:6:3");

  changed = lines;
  changed.insert(changed.begin() + 2, "something else");
  EXPECT_EQ(with(changed).substr(0, 11), "altered:3:3");

  changed = lines;
  changed.resize(5);
  EXPECT_EQ(with(changed), "truncated:1:6");

  write_file(segment(), whole);
  EXPECT_EQ(kinds(verified()), "");
  std::filesystem::remove(segment());
  EXPECT_EQ(kinds(verified()), "truncated:1:1");
}

TEST_F(AuditLogTest, AnAnchorFindsWhatWhoeverHoldsTheDirectoryDid) {
  write(6);
  const std::string anchors = dir_.file("anchors.jsonl");
  const auto lines = lines_of(read_file(segment()));
  // Cut, with the head beside the log taken away.
  write_file(segment(), joined({lines.begin(), lines.begin() + 4}));
  std::filesystem::remove(dir_.file("audit/head.json"));
  EXPECT_EQ(kinds(verified()), "") << "nothing here can tell";
  EXPECT_EQ(kinds(verified(anchors)).substr(0, 9), "truncated");

  // Written anew from the second record on, with every hash right.
  std::vector<std::string> anew{lines[0]};
  std::string prev = decode(lines[0])->hash;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    Record record = *decode(lines[i]);
    if (i == 1) record.subject = "another";
    record.prev = prev;
    anew.push_back(encode(record));
    prev = decode(anew.back())->hash;
  }
  write_file(segment(), joined(anew));
  EXPECT_EQ(kinds(verified()), "");
  const Report report = verified(anchors);
  EXPECT_FALSE(report.ok());
  for (const Finding& finding : report.findings) EXPECT_EQ(finding.kind, "anchor") << finding.text;

  // And signed with another key.
  write_file(segment(), joined(lines));
  for (const char* name : {"audit/signing.key", "audit/signing.pub"}) std::filesystem::remove(dir_.file(name));
  ASSERT_TRUE(SigningKey::open_or_make(dir_.file("audit")).ok());
  EXPECT_EQ(kinds(verified(anchors)).substr(0, 9), "signature");
}

TEST_F(AuditLogTest, AnAlteredAnchorIsFound) {
  write(2);
  std::string anchors = read_file(dir_.file("anchors.jsonl"));
  const std::size_t at = anchors.rfind("\"hash\":\"") + 8;
  anchors[at] = anchors[at] == '0' ? '1' : '0';
  write_file(dir_.file("other.jsonl"), anchors + "no head\n");
  const Report report = verified(dir_.file("other.jsonl"));
  ASSERT_EQ(report.findings.size(), 2U) << kinds(report);
  EXPECT_EQ(report.findings[0].kind, "signature");
  EXPECT_EQ(report.findings[1].kind, "signature");
  EXPECT_FALSE(verify({dir_.file("audit"), dir_.file("none"), {}}).ok());
  write_file(dir_.file("empty"), "");
  EXPECT_FALSE(verify({dir_.file("audit"), dir_.file("empty"), {}}).ok());
}

TEST_F(AuditLogTest, GoesOnAfterItWasCutAtAnyByte) {
  write(2);
  const std::string whole = read_file(segment());
  const std::size_t record_count = lines_of(whole).size();
  const std::size_t last_start = whole.size() - lines_of(whole).back().size() - 1;
  const auto files = [this](const std::string& prefix) {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(dir_.file("audit")))
      if (entry.path().filename().string().starts_with(prefix)) found.push_back(entry.path().string());
    return found;
  };
  for (std::size_t cut = last_start; cut <= whole.size(); cut += cut + 40U < whole.size() ? 37U : 1U) {
    const bool torn = cut != last_start && cut != whole.size();
    // As kill -9 leaves it; or a power cut, which leaves zeros of a group's further records.
    for (const std::string& zeros :
         torn ? std::vector<std::string>{"", std::string("\0\0\n\0", 4)} : std::vector<std::string>{""}) {
      for (const char* prefix :
           {"torn-", "head.json"})  // a head is signed of what is durable: the one that is there now is of a later time
        for (const std::string& path : files(prefix)) std::filesystem::remove(path);
      write_file(segment(), whole.substr(0, cut) + zeros);
      open();
      const Report report = verified();
      EXPECT_TRUE(report.ok()) << cut << ": " << kinds(report);
      const auto all = records();
      const std::size_t before = cut == whole.size() ? record_count : record_count - 1;
      ASSERT_GT(all.size(), before);
      EXPECT_EQ(all[before].action, torn ? "log.repair" : "log.open") << cut;
      ASSERT_EQ(files("torn-").size(), torn ? 1U : 0U);
      if (!torn) continue;
      const std::string kept = read_file(files("torn-")[0]);
      EXPECT_EQ(kept, whole.substr(last_start, cut - last_start) + zeros) << "nothing is thrown away";
      EXPECT_NE(all[before].detail.find(sha256_hex(kept)), std::string::npos) << all[before].detail;
    }
  }
}

TEST_F(AuditLogTest, DamageInTheMiddleIsLeftAndSaid) {
  write(3);
  auto lines = lines_of(read_file(segment()));
  lines[2] = "damaged";
  write_file(segment(), joined(lines));
  open();
  EXPECT_NE(warnings_.find("line 3"), std::string::npos) << warnings_;
  EXPECT_EQ(lines_of(read_file(segment()))[2], "damaged");
  EXPECT_EQ(kinds(verified()), "altered:3:3");
}

TEST_F(AuditLogTest, ALogThatWasCutGoesOnBehindTheGap) {
  write(4);  // six records
  const auto lines = lines_of(read_file(segment()));
  write_file(segment(), joined({lines.begin(), lines.begin() + 3}));
  open();
  const auto all = records();
  EXPECT_EQ(all[3].seq, 7U);
  EXPECT_EQ(all[3].action, "log.damage");
  const Report report = verified(dir_.file("anchors.jsonl"));
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(kinds(report).substr(0, 7), "gap:4:4") << kinds(report);
}

TEST_F(AuditLogTest, AnActWithoutAResultIsInterrupted) {
  {
    auto log = open();
    ASSERT_TRUE(log->write(act("finished", Event::begun, "r1")).ok());
    ASSERT_TRUE(log->write(act("finished", Event::done, "r1")).ok());
    ASSERT_TRUE(log->write(act("unfinished", Event::begun, "r2")).ok());
  }
  for (int i = 0; i < 2; ++i) open();
  std::string interrupted;
  for (const Record& record : records())
    if (record.event == Event::interrupted)
      interrupted += record.subject + " " + record.request + " " + record.who + ";";
  EXPECT_EQ(interrupted, "unfinished r2 key:1;") << "once, not at every start";
  EXPECT_TRUE(verified().ok());
}

TEST_F(AuditLogTest, FullFilesAreSealedAndOldOnesRemovedByTheRetention) {
  auto with_small_files = options();
  with_small_files.segment_bytes = 2'000;
  with_small_files.retention_days = 1;
  const auto fill = [&] {
    auto log = open(with_small_files);
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(log->write(act("m")).ok());
  };
  fill();
  const auto first = segments();
  ASSERT_GT(first.size(), 3U);
  EXPECT_EQ(records().at(lines_of(read_file(first[0])).size() - 1).action, "log.seal");
  struct stat status {};
  ASSERT_EQ(stat(first[0].c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0400U);
  const Report before = verified(dir_.file("anchors.jsonl"));
  EXPECT_TRUE(before.ok()) << kinds(before);
  EXPECT_GE(before.heads_matched, first.size() - 1) << "each sealed file has a signed head";

  std::filesystem::remove(first[1]);
  EXPECT_EQ(kinds(verified()).substr(0, 3), "gap") << "a whole file is missing";
  write_file(first[1], "");
  EXPECT_FALSE(verified().ok());
}

TEST_F(AuditLogTest, TheRetentionIsOnRecord) {
  auto with_small_files = options();
  with_small_files.segment_bytes = 2'000;
  with_small_files.retention_days = 1;
  {
    auto log = open(with_small_files);
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(log->write(act("m")).ok());
  }
  const auto first = segments();
  ASSERT_GT(first.size(), 3U);
  const std::size_t old_files = first.size() - 1;  // the last one is not sealed yet
  for (const std::string& path : first)
    std::filesystem::last_write_time(path,
                                     std::filesystem::file_time_type::clock::now() - std::chrono::hours(24 * 3000));
  now_ms_ += 3 * 86'400'000LL;
  {
    auto log = open(with_small_files);
    while (std::filesystem::exists(first[old_files - 1])) std::this_thread::yield();
    ASSERT_TRUE(log->write(act("later")).ok());
  }
  for (std::size_t i = 0; i < old_files; ++i) EXPECT_FALSE(std::filesystem::exists(first[i])) << i;
  const Report report = verified(dir_.file("anchors.jsonl"));
  EXPECT_TRUE(report.ok()) << kinds(report) << report.findings.at(0).text;
  EXPECT_GT(report.expired_through_seq, 1U);
  EXPECT_GT(report.first_seq, 1U);
}

TEST_F(AuditLogTest, WhatCannotBeWrittenIsSaidAndLeavesNoTrace) {
  auto log = open();
  ASSERT_TRUE(log->write(act("before")).ok());
  const auto size = std::filesystem::file_size(segment());
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit full{size + 20, old.rlim_max};  // as when the disk is full
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  const base::Status refused = log->write(act("lost"));
  const base::Status again = log->write(act("lost too"));
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, base::ErrorKind::io);
  EXPECT_NE(refused.error().message.find(segment()), std::string::npos) << refused.error().message;
  EXPECT_FALSE(again.ok());
  EXPECT_EQ(log->failed(), 2U);
  EXPECT_TRUE(log->write(act("after")).ok()) << "it goes on when there is room again";
  log.reset();
  std::string subjects;
  for (const Record& record : records()) subjects += record.subject + ";";
  EXPECT_EQ(subjects, ";before;after;;");
  EXPECT_TRUE(verified().ok());
}

TEST_F(AuditLogTest, AFileThatSomebodyTouchedIsNotWrittenTo) {
  auto log = open();
  ASSERT_TRUE(log->write(act("before")).ok());
  const std::string whole = read_file(segment());
  { std::ofstream(segment(), std::ios::app) << "more"; }
  const base::Status refused = log->write(act("m"));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, base::ErrorKind::conflict);
  EXPECT_EQ(read_file(segment()), whole + "more");
  const std::string path = segment();
  std::filesystem::remove(path);
  EXPECT_FALSE(log->write(act("m")).ok());
}

TEST_F(AuditLogTest, AnExportPathThatCannotBeWrittenHoldsNothingUp) {
  auto o = options();
  o.export_path = dir_.file("no/such/directory/heads");
  auto log = open(o);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(log->write(act("m")).ok());
  while (log->failed_exports() == 0) std::this_thread::yield();
  log.reset();
  EXPECT_NE(warnings_.find("no/such/directory"), std::string::npos) << warnings_;
  EXPECT_TRUE(verified().ok());
}

}  // namespace
}  // namespace thaw::audit
