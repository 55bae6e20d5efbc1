#include "spec/utf8.h"

#include <algorithm>
#include <array>

namespace thaw::spec {
namespace {

/// A row of table 3-7 in the Unicode Standard: lead bytes, how many bytes follow, and what the first of them may be.
struct Form {
  unsigned char first_lead, last_lead;
  std::size_t following;
  unsigned char low, high;
};
constexpr std::array<Form, 9> kForms{{{0x00, 0x7f, 0, 0x00, 0x00},
                                      {0xc2, 0xdf, 1, 0x80, 0xbf},
                                      {0xe0, 0xe0, 2, 0xa0, 0xbf},
                                      {0xe1, 0xec, 2, 0x80, 0xbf},
                                      {0xed, 0xed, 2, 0x80, 0x9f},
                                      {0xee, 0xef, 2, 0x80, 0xbf},
                                      {0xf0, 0xf0, 3, 0x90, 0xbf},
                                      {0xf1, 0xf3, 3, 0x80, 0xbf},
                                      {0xf4, 0xf4, 3, 0x80, 0x8f}}};

bool starts_with_character(std::string_view text, const Form& form) {
  if (text.size() <= form.following) return false;
  for (std::size_t i = 1; i <= form.following; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < (i == 1 ? form.low : 0x80) || byte > (i == 1 ? form.high : 0xbf)) return false;
  }
  return true;
}

}  // namespace

std::size_t find_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const auto* form = std::find_if(kForms.begin(), kForms.end(), [lead](const Form& candidate) {
      return lead >= candidate.first_lead && lead <= candidate.last_lead;
    });
    if (form == kForms.end() || !starts_with_character(text.substr(at), *form)) return at;
    at += form->following + 1;
  }
  return at;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  for (;;) {
    const std::size_t valid = find_invalid_utf8(text);
    out.append(text.substr(0, valid));
    if (valid == text.size()) return out;
    out.append("\xef\xbf\xbd");
    text.remove_prefix(valid + 1);
  }
}

}  // namespace thaw::spec
