#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/http.h"

namespace thaw::gateway {

/// Whether pages of other origins may call the OpenAI API from a browser: none, unless cors.origins names them. The admin API never can be: a page
/// that got hold of a key must not administer.
class Cors {
 public:
  explicit Cors(std::vector<std::string> origins) : origins_(std::move(origins)) {}

  /// The request's origin when it may read the answer; else "".
  [[nodiscard]] std::string_view allowed(const net::Head& head) const;
  /// Whether it is a browser's question before the request itself, from an origin that may ask.
  [[nodiscard]] bool is_preflight(const net::Head& head) const;

 private:
  std::vector<std::string> origins_;  ///< "https://chat.example.com"; "*": any
};

/// Header lines that let a page of `origin` read the answer.
void append_cors(std::string& out, std::string_view origin);
/// The answer to a preflight: what may be sent.
std::string preflight_headers();

}  // namespace thaw::gateway
