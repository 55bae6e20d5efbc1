#include "spec/parse_secrets.h"

#include <algorithm>

#include <fmt/format.h>

namespace thaw::spec {
namespace {

constexpr std::size_t kMaxSecrets = 32;
constexpr std::size_t kMaxName = 64;
constexpr std::size_t kMaxPath = 255;

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && text.front() != '.' &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_word(c) || c == '.' || c == '-'; });
}

/// Of names, with nothing that leads up.
bool is_relative_path(std::string_view text) {
  if (text.empty() || text.size() > kMaxPath) return false;
  for (;;) {
    const std::size_t slash = text.find('/');
    if (!is_name(text.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    text.remove_prefix(slash + 1);
  }
}

template <typename Right>
Field<Secret> checked(const char* key, std::string Secret::*member, Right right, const char* wanted) {
  return {key, [=](const Cursor& at, Secret& into) {
            std::string text;
            if (!read_text(at, text)) return;
            if (right(text))
              into.*member = text;
            else
              at.refuse(fmt::format("\"{}\" is not {}", printable(text), wanted));
          },
          false, shapes::text()};
}

const Table<Secret>& secret_table() {
  static const Table<Secret> table{
      required(checked("name", &Secret::name, is_name, "a name: use 1 to 64 letters, digits, \".\", \"_\" and \"-\", no \".\" first")),
      checked("file", &Secret::file, is_relative_path, "a path below node.secretsDir, such as team-a/hf-token"),
      checked(
          "fromEnv", &Secret::from_env,
          [](std::string_view text) { return !text.empty() && text.size() <= kMaxName && std::all_of(text.begin(), text.end(), is_word); },
          "a variable's name; HF_TOKEN is the server's THAW_SECRET_HF_TOKEN")};
  return table;
}

}  // namespace

std::string secrets_shape() { return shapes::list(shape_of(secret_table()), kMaxSecrets); }

void read_secrets(const Cursor& at, ModelSpec& into) {
  read_items(at, {"secrets", "[{name: hf-token, file: hf-token}]", kMaxSecrets}, [&into](const Cursor& item) {
    Secret secret;
    read_table(item, secret_table(), secret);
    if (secret.file.empty() == secret.from_env.empty()) item.refuse("needs either file or fromEnv");
    const bool twice = std::any_of(into.secrets.begin(), into.secrets.end(), [&](const Secret& other) { return other.name == secret.name; });
    if (twice) item.refuse("has a name that is there already");
    into.secrets.push_back(std::move(secret));
  });
}

void check_secrets(const Cursor& at, const ModelSpec& spec) {
  if (!spec.secrets.empty() && spec.snapshot.mode == Mode::always)
    at.at("snapshot").refuse("mode always cannot be had with secrets: an image of the engine would hold them on disk");
}

}  // namespace thaw::spec
