#pragma once

#include <string>
#include <vector>

#include "cli/chat.h"

namespace thaw::cli {

/// What somebody types in `thaw chat`, line by line, and what was said so far. No I/O.
class Conversation {
 public:
  /// The oldest messages leave beyond this, in pairs: an engine's context is bounded, and so are we.
  static constexpr std::size_t kMaxMessages = 1000;
  static constexpr std::size_t kMaxMessageBytes = 16U << 20;

  explicit Conversation(std::string system, bool timing = false) : system_(std::move(system)), timing_(timing) {}

  struct Step {
    enum class Kind {
      nothing,  ///< read on
      ask,      ///< `text` is a message for the model
      say,      ///< `text` is for the person
      help,
      end,
    };
    Kind kind = Kind::nothing;
    std::string text;
  };
  /// The next line, without its end.
  Step take(const std::string& line);

  /// The model has answered `prompt`.
  void answered(const std::string& prompt, const std::string& answer);

  [[nodiscard]] const std::vector<ChatMessage>& messages() const { return messages_; }
  [[nodiscard]] const std::string& system() const { return system_; }
  [[nodiscard]] bool timing() const { return timing_; }
  [[nodiscard]] bool in_message() const { return in_message_; }  ///< between two """

 private:
  Step take_command(const std::string& line);
  Step take_part(const std::string& line);

  std::vector<ChatMessage> messages_;
  std::string system_;
  std::string part_;  ///< of a message of several lines
  bool in_message_ = false;
  bool timing_ = false;
};

}  // namespace thaw::cli
