#include "behaviour.h"

#include <charconv>

namespace thaw::fake_engine {
namespace {

constexpr std::string_view kMarker = "fake:";
constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz_=,0123456789";

void apply_trouble(Behaviour& behaviour, std::string_view word) {
  if (word == "chunked") behaviour.error_framing = Behaviour::Framing::chunked;
  if (word == "until_close") behaviour.error_framing = Behaviour::Framing::until_close;
  if (word == "long") behaviour.long_error = true;
  const bool middle = word.ends_with("_mid");
  if (middle) word.remove_suffix(4);
  using Trouble = Behaviour::Trouble;
  if (word == "crash") behaviour.trouble = Trouble::crash;
  else if (word == "hang") behaviour.trouble = Trouble::hang;
  else if (word == "cut") behaviour.trouble = Trouble::cut;
  else if (word == "exit") behaviour.trouble = Trouble::exit;
  else return;
  behaviour.when = middle ? Behaviour::When::middle : Behaviour::When::start;
}

void apply(Behaviour& behaviour, std::string_view directive) {
  const std::size_t equals = directive.find('=');
  if (equals == std::string_view::npos) return apply_trouble(behaviour, directive);
  const std::string_view key = directive.substr(0, equals);
  const std::string_view text = directive.substr(equals + 1);
  std::int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  if (key == "tokens") behaviour.tokens = number;
  else if (key == "delay_ms") behaviour.delay_ms = number;
  else if (key == "first_ms") behaviour.first_ms = number;
  else if (key == "status") behaviour.status = static_cast<int>(number);
}

}  // namespace

Behaviour behaviour_of(const Options& options, std::string_view body) {
  using Trouble = Behaviour::Trouble;
  Behaviour behaviour;
  behaviour.tokens = options.tokens;
  behaviour.delay_ms = options.token_delay_ms;
  behaviour.first_ms = options.first_ms;
  behaviour.status = options.error_status;
  if (options.hang_mid_answer || options.cut_mid_answer) {
    behaviour.trouble = options.hang_mid_answer ? Trouble::hang : Trouble::cut;
    behaviour.when = Behaviour::When::middle;
  }
  if (!options.crash_on.empty() && body.find(options.crash_on) != std::string_view::npos) behaviour.trouble = Trouble::crash;

  const std::size_t marker = body.find(kMarker);
  if (marker == std::string_view::npos) return behaviour;
  std::string_view rest = body.substr(marker + kMarker.size());
  rest = rest.substr(0, rest.find_first_not_of(kLetters));
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    apply(behaviour, rest.substr(0, comma));
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  return behaviour;
}

}  // namespace thaw::fake_engine
