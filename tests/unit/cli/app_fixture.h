#pragma once

#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cli/app.h"

namespace thaw::cli {

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

/// Runs command lines as main() would, with captured streams and an environment of its own.
class App : public ::testing::Test {
 protected:
  Outcome run(const std::vector<std::string>& arguments, const std::string& url = "http://127.0.0.1:1",
              const std::string& typed = "") {
    std::istringstream in(typed);
    std::ostringstream out;
    std::ostringstream err;
    const std::map<std::string, std::string> variables{{"THAW_URL", url}, {"THAW_API_KEY", "k"}};
    Context context{out,
                    err,
                    Terminal{},
                    [variables](const char* name) -> std::optional<std::string> {
                      const auto found = variables.find(name);
                      if (found == variables.end()) return std::nullopt;
                      return found->second;
                    },
                    [this](const ServeOptions& options) {
                      served_ = options;
                      return 42;
                    },
                    [this](const node::AgentConfig& config, const std::vector<std::string>& model_files) {
                      examined_ = config;
                      examined_files_ = model_files;
                      return findings_;
                    },
                    [this](const std::string& path) -> base::Result<node::DiskCalibration> {
                      calibrated_.push_back(path);
                      if (calibration_error_) return *calibration_error_;
                      node::DiskCalibration calibration;
                      const auto disk = node::disk_of(path);
                      if (!disk.ok()) return disk.error();
                      calibration.disk = *disk;
                      calibration.settings = {512 << 10, 16};
                      calibration.bytes_per_s = 3.21e9;
                      calibration.threads_why = "io_uring is forbidden";
                      return calibration;
                    },
                    in};
    const int code = run_cli(arguments, context);
    return {code, out.str(), err.str()};
  }

  std::optional<ServeOptions> served_;
  std::optional<node::AgentConfig> examined_;
  std::vector<std::string> examined_files_;
  std::vector<node::Finding> findings_;
  std::vector<std::string> calibrated_;
  std::optional<base::Error> calibration_error_;
};

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace thaw::cli
