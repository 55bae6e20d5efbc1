#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

/// The problem: every engine has metrics of its own, and whoever watches a hundred models wants one place to ask, where
/// each line says whose it is. Takes what engines said in Prometheus' text format
/// (https://prometheus.io/docs/instrumenting/exposition_formats) and writes it as one, with two labels more.
namespace thaw::observe {

/// One answer. One thread. Engines are strangers: what is no metric is left out, and there are bounds.
class EngineMetrics {
 public:
  static constexpr std::size_t kMaxBytes = 16U << 20;  ///< of the whole; what comes beyond is left out
  static constexpr std::size_t kMaxFamilies = 10'000;

  /// Every sample gets the labels `model` and `instance`; labels of these names that it has already become
  /// `exported_model` and `exported_instance`.
  void add(std::string_view text, std::string_view model, std::uint64_t instance);

  /// All samples of a name together, as the format demands, with the help and type that came first.
  [[nodiscard]] std::string text() const;

 private:
  struct Family {
    std::string help;  ///< whole lines
    std::string type;
    std::string samples;
  };

  Family* family(std::string_view name);
  void add_comment(std::string_view line, std::string& current);
  void add_sample(std::string_view line, const std::string& current, const std::string& labels);

  std::map<std::string, Family, std::less<>> families_;
  std::size_t bytes_ = 0;
};

}  // namespace thaw::observe
