#pragma once

#include <cstdio>
#include <string>

namespace thaw::test {

/// Tar files by hand, so that a test can write what no tar program does.
class Tar {
 public:
  Tar& add(const std::string& name, const std::string& body = {}, char type = '0', const std::string& link = {}) {
    header(name, body.size(), type, link);
    bytes_ += body;
    pad();
    return *this;
  }
  /// A header alone, that says this size.
  Tar& header(const std::string& name, std::size_t size, char type, const std::string& link = {}, unsigned mode = 0644) {
    std::string block(512, '\0');
    block.replace(0, std::min<std::size_t>(name.size(), 100), name.substr(0, 100));
    put(block, 100, 8, mode);
    put(block, 108, 8, 0);
    put(block, 116, 8, 0);
    put(block, 124, 12, size);
    put(block, 136, 12, 0);
    block[156] = type;
    block.replace(157, std::min<std::size_t>(link.size(), 100), link.substr(0, 100));
    block.replace(257, 8, std::string("ustar\00000", 8));
    block.replace(148, 8, "        ");
    unsigned sum = 0;
    for (const char c : block) sum += static_cast<unsigned char>(c);
    char text[9];
    std::snprintf(text, sizeof text, "%06o", sum);
    block.replace(148, 8, std::string(text) + '\0' + ' ');
    bytes_ += block;
    return *this;
  }
  Tar& pax(const std::string& key, const std::string& value, char type = 'x') {
    const std::string rest = " " + key + "=" + value + "\n";
    std::size_t length = rest.size() + 1;
    while (std::to_string(length).size() + rest.size() != length) ++length;
    return add("pax", std::to_string(length) + rest, type);
  }
  [[nodiscard]] std::string end() const { return bytes_ + std::string(1024, '\0'); }
  [[nodiscard]] const std::string& open() const { return bytes_; }

 private:
  static void put(std::string& block, std::size_t at, std::size_t length, std::size_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "%0*zo", static_cast<int>(length) - 1, value);
    block.replace(at, length - 1, text);
  }
  void pad() { bytes_.resize((bytes_.size() + 511) / 512 * 512, '\0'); }

  std::string bytes_;
};

}  // namespace thaw::test
