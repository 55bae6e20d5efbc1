// Whatever `thaw doctor` finds that is not as it should be, it says what to do about: of every finding that is written
// down in the sources, since no machine has all of those faults.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace thaw::cli {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<fs::path> sources() {
  std::vector<fs::path> found;
  for (const char* folder : {"node", "cli"})
    for (const auto& entry : fs::directory_iterator(std::string(THAW_SOURCE_DIR) + "/src/" + folder)) {
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() == ".cpp" && (name.starts_with("doctor") || name == "host_commands.cpp"))
        found.push_back(entry.path());
    }
  return found;
}

/// Text literals are blanked, but that an empty one is told from others: so that braces and commas in them do not
/// count.
std::string without_literals(const std::string& text) {
  static const std::regex literal(R"("(?:[^"\\]|\\.)*")");
  std::string out;
  auto at = text.cbegin();
  for (std::sregex_iterator match(text.begin(), text.end(), literal), end; match != end; ++match) {
    out.append(at, text.cbegin() + match->position());
    out += match->length() == 2 ? "E" : "T";
    at = text.cbegin() + match->position() + match->length();
  }
  return out.append(at, text.cend());
}

/// The braces around position `at`, as they stand.
std::string braces_around(const std::string& text, std::size_t at) {
  std::size_t begin = at;
  for (int depth = 0; begin > 0; --begin) {
    if (text[begin] == '}') ++depth;
    if (text[begin] == '{' && depth-- == 0) break;
  }
  std::size_t end = begin;
  for (int depth = 0; end < text.size(); ++end) {
    if (text[end] == '{') ++depth;
    if (text[end] == '}' && --depth == 0) break;
  }
  return text.substr(begin, end - begin + 1);
}

TEST(Doctor, SaysWhatToDoAboutEveryFindingThatIsWrittenDown) {
  static const std::regex fault(R"(Level::(note|warning|failure))");
  static const std::regex no_remedy(R"(,\s*E\s*\}$)");
  std::size_t findings = 0;
  for (const fs::path& path : sources()) {
    const std::string text = without_literals(text_of(path));
    for (std::sregex_iterator match(text.begin(), text.end(), fault), end; match != end; ++match) {
      const std::string finding = braces_around(text, static_cast<std::size_t>(match->position()));
      if (finding.size() > 1000 || finding[1] != 'T') continue;  // not a finding: a switch, a comparison
      ++findings;
      EXPECT_FALSE(std::regex_search(finding, no_remedy)) << path << ": a finding without a remedy: " << finding;
    }
  }
  EXPECT_GT(findings, 40U) << "the test does not see the findings any more";
}

}  // namespace
}  // namespace thaw::cli
