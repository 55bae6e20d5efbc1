// Reads the audit log's files, not the server: what is to be checked must not be asked.
#include <deque>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "audit/segments.h"
#include "audit/tenant_seals.h"
#include "audit/verify.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/interrupt.h"
#include "spec/parse.h"
#include "spec/server_config.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;

constexpr std::uint32_t kDefaultLines = 20;
constexpr std::uint32_t kMaxLines = 10'000;
constexpr std::size_t kMaxConfigBytes = 1U << 20U;
constexpr std::size_t kMaxHeadBytes = 1024;
constexpr base::Duration kLookInterval = base::Millis(200);

struct AuditFlags {
  std::string act;
  std::string config_path, data_dir;
  bool follow = false;
  std::uint32_t lines = kDefaultLines;
  std::string anchor, public_key;
  std::string since, until;
  bool head = false;
};

/// Where the log of the server with these flags lies.
base::Result<std::string> directory_of(const AuditFlags& flags) {
  spec::ServerConfig config;
  if (!flags.config_path.empty()) {
    THAW_ASSIGN_OR_RETURN(const std::string text, read_text_file(flags.config_path, kMaxConfigBytes));
    THAW_ASSIGN_OR_RETURN(config, spec::parse_server_config(text, flags.config_path, config));
  }
  return (flags.data_dir.empty() ? config.data_dir : flags.data_dir) + "/audit";
}

/// Where a caller came from: what is sealed is read while its tenant's key is there.
std::string origin(const audit::Record& record, const std::string& directory) {
  if (!record.from.starts_with("sealed:")) return record.from;
  const auto seals = audit::TenantSeals::open(directory + "/seals", true);
  const auto text = seals.ok() ? seals->open_text(record.from) : std::nullopt;
  return text.value_or("(erased)");
}

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

void print_record(Context& context, const std::string& directory, const std::string& line, const std::string& where) {
  const auto record = audit::decode(line);
  if (!record.ok()) {
    context.err << fmt::format("thaw: {}: {}; see `thaw audit verify`\n", where, record.error().message);
    return;
  }
  if (context.json) {
    context.out << line << '\n';
    return;
  }
  std::string text = fmt::format("{}  {:<11}  {:<15}  {:<8}  {:<15}  {}", audit::format_time(record->unix_ms),
                                 to_string(record->event), record->action, record->who, or_dash(origin(*record, directory)),
                                 or_dash(record->subject));
  if (record->status != 0) text += fmt::format("  {}", record->status);
  if (!record->detail.empty()) text += "  " + record->detail;
  // What a client sent stands in it, line ends too.
  for (char& c : text)
    if (c == '\n' || c == '\t') c = ' ';
  context.out << without_controls(text) << '\n';
}

/// A place in the log behind the last whole line that was shown.
struct Place {
  std::string path;
  std::uint64_t offset = 0;
};

/// The last lines of the log, oldest first, and the place behind them.
base::Result<std::deque<std::pair<std::string, std::string>>> last_lines(const std::string& directory,
                                                                         std::size_t count, Place& place) {
  THAW_ASSIGN_OR_RETURN(const auto segments, audit::list_segments(directory));
  std::deque<std::pair<std::string, std::string>> lines;
  for (auto segment = segments.rbegin();
       segment != segments.rend() && (lines.size() < count || segment == segments.rbegin()); ++segment) {
    std::deque<std::pair<std::string, std::string>> here;
    const std::size_t room = count - lines.size();
    std::uint64_t end = 0;
    THAW_RETURN_IF_ERROR(audit::each_line(segment->path, 0, [&](const audit::Line& line) {
      if (!line.complete) return true;
      end = line.end;
      here.emplace_back(line.text, fmt::format("{}:{}", audit::name_of(segment->path), line.number));
      if (here.size() > room) here.pop_front();
      return true;
    }));
    if (place.path.empty()) place = {segment->path, end};
    lines.insert(lines.begin(), here.begin(), here.end());
  }
  return lines;
}

/// Shows what has come since, in this file and those after it.
base::Status show_new(Context& context, const std::string& directory, Place& place) {
  THAW_ASSIGN_OR_RETURN(const auto segments, audit::list_segments(directory));
  for (const audit::Segment& segment : segments) {
    if (segment.path < place.path) continue;
    if (segment.path != place.path) place = {segment.path, 0};
    THAW_RETURN_IF_ERROR(audit::each_line(segment.path, place.offset, [&](const audit::Line& line) {
      if (!line.complete) return false;
      print_record(context, directory, std::string(line.text),
                   fmt::format("{} at byte {}", audit::name_of(segment.path), line.offset));
      place.offset = line.end;
      return true;
    }));
  }
  context.out.flush();
  return {};
}

int tail(Context& context, const AuditFlags& flags, const std::string& directory) {
  Place place;
  const auto lines = last_lines(directory, flags.lines, place);
  if (!lines.ok()) return context.fail(lines.error());
  for (const auto& [line, where] : *lines) print_record(context, directory, line, where);
  context.out.flush();
  if (!flags.follow) return kExitOk;
  const Interrupt interrupt;
  while (!interrupt.wait_for(kLookInterval))
    if (const auto shown = show_new(context, directory, place); !shown.ok()) return context.fail(shown.error());
  return kExitInterrupted;
}

json::object describe(const audit::Finding& finding) {
  return {{"kind", finding.kind},
          {"file", finding.file},
          {"line", finding.line},
          {"seq", finding.seq},
          {"text", finding.text}};
}

void print_report_json(Context& context, const audit::Report& report) {
  json::array findings;
  for (const auto& finding : report.findings) findings.push_back(describe(finding));
  context.out << json::serialize(json::object{{"ok", report.ok()},
                                              {"records", report.records},
                                              {"files", report.files},
                                              {"first_seq", report.first_seq},
                                              {"last_seq", report.last_seq},
                                              {"expired_through_seq", report.expired_through_seq},
                                              {"heads_matched", report.heads_matched},
                                              {"heads_expired", report.heads_expired},
                                              {"incomplete_end", report.incomplete_end},
                                              {"findings_total", report.findings_total},
                                              {"findings", std::move(findings)}})
              << '\n';
}

void print_report(Context& context, const audit::Report& report, bool anchored) {
  for (const auto& finding : report.findings) {
    const std::string place = finding.file.empty() ? "the log"
                              : finding.line == 0  ? finding.file
                                                   : fmt::format("{}:{}", finding.file, finding.line);
    context.out << styled(fmt::format("{:<10}", finding.kind), Style::red, context.terminal.colours)
                << without_controls(fmt::format("{}: {}\n", place, finding.text));
  }
  if (report.findings_total > report.findings.size())
    context.out << fmt::format("... and {} more\n", report.findings_total - report.findings.size());
  context.out << fmt::format("{} records ({} to {}) in {} files", report.records, report.first_seq, report.last_seq,
                             report.files);
  if (report.records > 0)
    context.out << fmt::format(", {} to {}", audit::format_time(report.first_unix_ms),
                               audit::format_time(report.last_unix_ms));
  context.out << fmt::format("; {} signed heads match", report.heads_matched) << '\n';
  if (report.expired_through_seq != 0)
    context.out << fmt::format("records up to {} were removed by the retention; {} signed heads are of those\n",
                               report.expired_through_seq, report.heads_expired);
  if (report.incomplete_end)
    context.out << "the last line has no end yet: a record is just being written, or the server was killed (it mends "
                   "that at its next start)\n";
  if (!anchored)
    context.out << "without --anchor FILE, what whoever holds this directory cut off or wrote anew with its key cannot "
                   "be found\n";
  context.out << (report.ok() ? styled("the log is whole", Style::green, context.terminal.colours)
                              : styled(fmt::format("{} findings: the log is NOT whole", report.findings_total),
                                       Style::red, context.terminal.colours))
              << '\n';
}

int verify(Context& context, const AuditFlags& flags, const std::string& directory) {
  const auto report = audit::verify({directory, flags.anchor, flags.public_key});
  if (!report.ok()) return context.fail(report.error());
  if (context.json)
    print_report_json(context, *report);
  else
    print_report(context, *report, !flags.anchor.empty());
  return report->ok() ? kExitOk : kExitFailure;
}

int export_head(Context& context, const std::string& directory) {
  const auto head = read_text_file(audit::head_path(directory), kMaxHeadBytes);
  if (!head.ok()) return context.fail(head.error());
  context.out << *head;
  return kExitOk;
}

int export_records(Context& context, const AuditFlags& flags, const std::string& directory) {
  const auto segments = audit::list_segments(directory);
  if (!segments.ok()) return context.fail(segments.error());
  std::uint64_t damaged = 0;
  for (const audit::Segment& segment : *segments) {
    const auto read = audit::each_line(segment.path, 0, [&](const audit::Line& line) {
      if (!line.complete) return true;
      const auto record = audit::decode(line.text);
      if (!record.ok()) ++damaged;
      // Times of one form stand in the order of their letters, and so does a beginning of one.
      const std::string time = record.ok() ? audit::format_time(record->unix_ms) : "";
      if (record.ok() &&
          ((!flags.since.empty() && time < flags.since) || (!flags.until.empty() && time >= flags.until)))
        return true;
      context.out << line.text << '\n';
      return context.out.good();
    });
    if (!read.ok()) return context.fail(read.error());
  }
  if (damaged == 0) return kExitOk;
  return context.fail(
      {base::ErrorKind::io,
       fmt::format("{} lines are no records; they were exported as they are; see `thaw audit verify`", damaged)});
}

int run_audit(Context& context, const AuditFlags& flags) {
  const auto directory = directory_of(flags);
  if (!directory.ok()) return context.fail(directory.error());
  if (flags.act == "tail") return tail(context, flags, *directory);
  if (flags.act == "verify") return verify(context, flags, *directory);
  return flags.head ? export_head(context, *directory) : export_records(context, flags, *directory);
}

/// "2026", "2026-11-25", "2026-11-25T19:53": the beginning of a time.
std::string check_time(const std::string& text) {
  constexpr std::string_view kForm = "0000-00-00T00:00:00.000Z";
  bool good = text.size() >= 4 && text.size() <= kForm.size();
  for (std::size_t i = 0; good && i < text.size(); ++i)
    good = kForm[i] == '0' ? text[i] >= '0' && text[i] <= '9' : text[i] == kForm[i];
  return good ? "" : "write it like 2026-11-25 or 2026-11-25T19:53:00Z, in UTC";
}

}  // namespace

void add_audit_command(Commands& commands) {
  auto flags = std::make_shared<AuditFlags>();
  CLI::App* command = commands.add(
      "audit", "Show, check or export the audit log of a server on this machine",
      "tail, export: the log's own lines; verify: an object with ok and findings",
      {"thaw audit tail -f", "thaw audit verify --anchor /mnt/worm/heads.jsonl",
       "thaw audit export --since 2026-11-01 > november.jsonl", "thaw audit export --head >> anchors.jsonl"},
      [flags](Context& context) { return run_audit(context, *flags); });
  const std::vector<std::string> acts{"tail", "verify", "export"};
  CLI::Option* const act =
      command
          ->add_option("ACT", flags->act,
                       "tail: show the last records; verify: look for tampering; export: write all records out")
          ->required();
  commands.offer(act->check(CLI::IsMember(acts).description("")), acts);
  command->add_option("--data-dir", flags->data_dir, "As for `thaw serve` (default: /var/lib/thaw)")->type_name("DIR");
  command->add_option("--config", flags->config_path, "As for `thaw serve`")
      ->type_name("FILE")
      ->check(CLI::Validator(CLI::ExistingFile).description(""));
  command->add_flag("-f,--follow", flags->follow, "tail: go on as records are written, until Ctrl-C");
  command->add_option("-n,--lines", flags->lines, fmt::format("tail: how many (default: {})", kDefaultLines))
      ->type_name("N")
      ->check(CLI::Range(std::uint32_t{0}, kMaxLines).description(""));
  command
      ->add_option("--anchor", flags->anchor,
                   "verify: signed heads that were kept elsewhere, one a line (audit.export of the server)")
      ->type_name("FILE")
      ->check(CLI::Validator(CLI::ExistingFile).description(""));
  command
      ->add_option("--public-key", flags->public_key,
                   "verify: the key to trust, in PEM (default: the log's own signing.pub)")
      ->type_name("FILE")
      ->check(CLI::Validator(CLI::ExistingFile).description(""));
  command->add_option("--since", flags->since, "export: records of this time (UTC) and later")
      ->type_name("TIME")
      ->check(CLI::Validator(check_time, ""));
  command->add_option("--until", flags->until, "export: records before this time (UTC)")
      ->type_name("TIME")
      ->check(CLI::Validator(check_time, ""));
  command->add_flag("--head", flags->head, "export: only the last signed head, to be kept elsewhere as an anchor");
}

}  // namespace thaw::cli
