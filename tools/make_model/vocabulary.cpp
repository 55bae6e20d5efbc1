#include "make_model/vocabulary.h"

#include <set>
#include <string_view>

#include <fmt/format.h>

namespace thaw::make_model {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, SentencePiece's word boundary

constexpr std::string_view kWords =
    "the of and to in a is that it was for on are with as his they be at one have this from or had by not word but "
    "what some "
    "we can out other were all there when up use your how said an each she which do their time if will way about many "
    "then "
    "them write would like so these her long make thing see him two has look more day could go come did number sound "
    "no most "
    "people my over know water than call first who may down side been now find any new work part take get place made "
    "live "
    "where after back little only round man year came show every good me give our under name very through just form "
    "sentence "
    "great think say help low line differ turn cause much mean before move right boy old too same tell does set three "
    "want "
    "air well also play small end put home read hand port large spell add even land here must big high such follow act "
    "why "
    "ask men change went light kind off need house picture try us again animal point mother world near build self "
    "earth "
    "father head stand own page should country found answer school grow study still learn plant cover food sun four "
    "between "
    "state keep eye never last let thought city tree cross farm hard start might story saw far sea draw left late run "
    "while "
    "press close night real life few north open seem together next white children begin got walk example ease paper "
    "group "
    "always music those both mark often letter until mile river car feet care second book carry took science eat room "
    "friend "
    "began idea fish mountain stop once base hear horse cut sure watch color face wood main user assistant system "
    "model";

void add(Vocabulary& vocabulary, std::string token, float score, Vocabulary::Type type, bool answer) {
  vocabulary.tokens.push_back(std::move(token));
  vocabulary.scores.push_back(score);
  vocabulary.types.push_back(type);
  vocabulary.answers.push_back(answer);
}

/// The word boundary followed by each word's beginnings, shortest first. SentencePiece only ever merges two tokens into
/// a third, so a word is reached from single characters only when every beginning of it is a token as well.
void add_words(Vocabulary& vocabulary) {
  std::set<std::string_view> words;
  std::size_t longest = 0;
  for (std::size_t at = 0; at < kWords.size();) {
    const std::size_t end = std::min(kWords.find(' ', at), kWords.size());
    words.insert(kWords.substr(at, end - at));
    longest = std::max(longest, end - at);
    at = end + 1;
  }
  for (std::size_t length = 1; length <= longest; ++length) {
    std::set<std::string_view> beginnings;
    for (const std::string_view word : words)
      if (word.size() >= length) beginnings.insert(word.substr(0, length));
    for (const std::string_view beginning : beginnings)
      add(vocabulary, std::string(kSpace) + std::string(beginning), -static_cast<float>(length),
          Vocabulary::Type::normal, words.contains(beginning));
  }
}

}  // namespace

const char* const kChatTemplate =
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

Vocabulary make_vocabulary() {
  Vocabulary vocabulary;
  add(vocabulary, "<unk>", 0, Vocabulary::Type::unknown, false);
  add(vocabulary, "<s>", 0, Vocabulary::Type::control, false);
  add(vocabulary, "</s>", 0, Vocabulary::Type::control, false);
  for (int byte = 0; byte < 256; ++byte)
    add(vocabulary, fmt::format("<0x{:02X}>", byte), 0, Vocabulary::Type::byte, false);
  add_words(vocabulary);
  // Single characters come last and score lowest: they are what remains of words that are not in the list.
  constexpr float kCharacterScore = -1000;
  add(vocabulary, std::string(kSpace), kCharacterScore, Vocabulary::Type::normal, false);
  for (char c = '!'; c <= '~'; ++c)
    add(vocabulary, std::string(1, c), kCharacterScore, Vocabulary::Type::normal, c == '.' || c == ',');
  return vocabulary;
}

}  // namespace thaw::make_model
