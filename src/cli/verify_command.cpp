#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/json.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxAnswerBytes = 16U << 20;

/// Cuts an answer into its lines, each a JSON object.
class ObjectLines {
 public:
  explicit ObjectLines(std::function<void(json::object)> take) : take_(std::move(take)) {}

  base::Status add(std::string_view bytes) {
    total_bytes_ += bytes.size();
    if (total_bytes_ > kMaxAnswerBytes) return base::Error{base::ErrorKind::internal, "the server's answer has no end"};
    for (const char c : bytes) {
      if (c != '\n') {
        line_.push_back(c);
        continue;
      }
      THAW_ASSIGN_OR_RETURN(json::object object, parse_object(std::exchange(line_, {}), "the server"));
      take_(std::move(object));
    }
    return {};
  }

 private:
  std::function<void(json::object)> take_;
  std::string line_;
  std::size_t total_bytes_ = 0;
};

std::string digest_or_unknown(const json::object& file, std::string_view key) {
  const std::string digest = text_of(file, key);
  return digest.empty() ? "unknown" : digest;
}

void print_file(const json::object& file, Context& context) {
  const std::string outcome = text_of(file, "outcome");
  const bool good = outcome == "intact" || outcome == "recorded";
  context.out << styled(fmt::format("{:<10}", outcome), good ? Style::green : Style::red, context.terminal.colours)
              << text_of(file, "path");
  if (good) {
    context.out << fmt::format(" ({}, sha256 {})\n", base::format_bytes(count_of(file, "bytes")), digest_or_unknown(file, "sha256"));
  } else {
    context.out << ": " << text_of(file, "detail") << '\n';
    if (outcome != "unreadable")
      context.out << fmt::format("          sha256 now      {}\n          sha256 recorded {}\n", digest_or_unknown(file, "sha256"),
                                 digest_or_unknown(file, "recorded_sha256"));
  }
  context.out.flush();
}

/// What the server said of one model's files.
struct Report {
  json::array files;
  json::object summary;  ///< its last line; empty: the answer broke off
  StreamEnd end = StreamEnd::complete;
  [[nodiscard]] bool ok() const { return flag_of(summary, "ok"); }
};

base::Result<Report> verify_model(const std::string& name, const Client& client, int interrupt_fd, Context& context) {
  Report report;
  ObjectLines lines([&](json::object object) {
    if (object.contains("path")) {
      if (!context.json) print_file(object, context);
      report.files.push_back(std::move(object));
    } else {
      report.summary = std::move(object);
    }
  });
  StreamHandler handler;
  handler.interrupt_fd = interrupt_fd;
  handler.on_data = [&lines](std::string_view bytes) { return lines.add(bytes); };
  THAW_ASSIGN_OR_RETURN(const auto outcome, client.stream({"POST", "/admin/v1/models/" + percent_encode(name) + "/verify", ""}, handler));
  report.end = outcome.end;
  if (outcome.end == StreamEnd::complete && report.summary.empty())
    return base::Error{base::ErrorKind::internal, "the server's answer broke off; look at its log and try again"};
  return report;
}

/// Why a model's files are not as they were, and what to do.
base::Error explain(const std::string& name, const Report& report) {
  if (const std::string error = text_of(report.summary, "error"); !error.empty())
    return {base::ErrorKind::io, fmt::format("cannot verify {}: {}", name, error)};
  const bool unreadable = std::any_of(report.files.begin(), report.files.end(), [](const json::value& file) {
    return file.is_object() && text_of(file.get_object(), "outcome") == "unreadable";
  });
  return {base::ErrorKind::io,
          unreadable ? fmt::format("the files of {} cannot all be read: put them back and let everybody read them (chmod o+r)", name)
                     : fmt::format("the files of {} are not those that were deployed: fetch them again, or, if the new ones are meant, deploy "
                                   "the model again", name)};
}

base::Result<std::vector<std::string>> all_models(const Client& client) {
  THAW_ASSIGN_OR_RETURN(const HttpResponse response, client.send({"GET", "/admin/v1/models", ""}));
  THAW_ASSIGN_OR_RETURN(const json::object answer, parse_object(response.body, "the server"));
  std::vector<std::string> names;
  for (const json::object* model : objects_of(answer, "models")) names.push_back(text_of(*model, "name"));
  return names;
}

int verify(Context& context, const std::string& only) {
  const auto client = context.client();
  if (!client.ok()) return context.fail(client.error());
  const Interrupt interrupt;
  const auto names = only.empty() ? all_models(*client) : base::Result<std::vector<std::string>>({only});
  if (!names.ok()) return context.fail(names.error());
  if (names->empty()) context.err << "no models; deploy one with `thaw deploy PATH.gguf`\n";
  int code = kExitOk;
  json::array models;
  for (const std::string& name : *names) {
    auto report = verify_model(name, *client, interrupt.fd(), context);
    if (!report.ok()) return context.fail(report.error());
    if (report->end == StreamEnd::interrupted) return kExitInterrupted;
    if (!report->ok()) code = context.fail(explain(name, *report));
    models.push_back(json::object{{"model", name}, {"ok", report->ok()}, {"error", text_of(report->summary, "error")}, {"files", std::move(report->files)}});
  }
  if (context.json) context.out << json::serialize(json::object{{"ok", code == kExitOk}, {"models", std::move(models)}}) << '\n';
  return code;
}

}  // namespace

void add_verify_command(Commands& commands) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = commands.add("verify", "Hash models' files again and compare with what was recorded; exits 1 if one differs",
                                   "An object with ok and, for each model, its files' digests", {"thaw verify", "thaw verify stories"},
                                   [name](Context& context) { return verify(context, *name); });
  commands.add_tenant_option(command);
  command->add_option("MODEL", *name, "Only this one");
}

}  // namespace thaw::cli
