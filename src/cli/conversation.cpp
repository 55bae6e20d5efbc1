#include "cli/conversation.h"

#include <algorithm>

#include <fmt/format.h>

#include "spec/parse.h"

namespace thaw::cli {
namespace {

constexpr std::string_view kQuotes = "\"\"\"";
constexpr std::string_view kBlanks = " \t\r";

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(kBlanks) - first + 1));
}

}  // namespace

Conversation::Step Conversation::take(const std::string& line) {
  if (in_message_) return take_part(line);
  const std::string text = trimmed(line);
  if (text.empty()) return {};
  if (text.starts_with(kQuotes)) {
    in_message_ = true;
    part_.clear();
    return take_part(text.substr(kQuotes.size()));
  }
  if (text.front() == '/') return take_command(text);
  return {Step::Kind::ask, text};
}

Conversation::Step Conversation::take_part(const std::string& line) {
  if (part_.size() + line.size() > kMaxMessageBytes) {
    in_message_ = false;
    return {Step::Kind::say, fmt::format("this message is longer than {} bytes; it is dropped", kMaxMessageBytes)};
  }
  const std::string text = trimmed(line);
  if (!text.ends_with(kQuotes)) {
    part_ += line + "\n";
    return {};
  }
  in_message_ = false;
  part_ += text.substr(0, text.size() - kQuotes.size());
  std::string whole = trimmed(part_);
  if (whole.empty()) return {};
  return {Step::Kind::ask, std::move(whole)};
}

Conversation::Step Conversation::take_command(const std::string& line) {
  const std::size_t blank = line.find_first_of(kBlanks);
  const std::string word = line.substr(0, blank);
  const std::string rest = blank == std::string::npos ? "" : trimmed(line.substr(blank));
  if (word == "/exit" || word == "/bye" || word == "/quit") return {Step::Kind::end, ""};
  if (word == "/help" || word == "/?") return {Step::Kind::help, ""};
  if (word == "/clear") {
    messages_.clear();
    return {Step::Kind::say, "forgotten"};
  }
  if (word == "/timing") {
    timing_ = !timing_;
    return {Step::Kind::say, timing_ ? "tokens and time are shown" : "tokens and time are not shown"};
  }
  if (word == "/system") {
    system_ = rest;
    return {Step::Kind::say, system_.empty() ? "no system message" : "system message set"};
  }
  const std::string close = spec::nearest(word, {"/exit", "/bye", "/quit", "/help", "/clear", "/timing", "/system"});
  return {Step::Kind::say, fmt::format("{} is nothing that can be done here{}; /help shows what is", word,
                                       close.empty() ? "" : fmt::format(" (did you mean {}?)", close))};
}

void Conversation::answered(const std::string& prompt, const std::string& answer) {
  if (messages_.size() + 2 > kMaxMessages) messages_.erase(messages_.begin(), messages_.begin() + 2);
  messages_.push_back({"user", prompt});
  messages_.push_back({"assistant", answer});
}

}  // namespace thaw::cli
