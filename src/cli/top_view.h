#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <boost/json/fwd.hpp>

#include "base/time.h"
#include "cli/terminal.h"

/// What `thaw top` shows, without a terminal and a clock: samples in, lines out.
namespace thaw::cli {

/// The server at one moment.
struct TopSample {
  struct Model {
    std::string name;
    std::string state;
    std::uint64_t replicas = 0;  ///< ready, starting, waking
    std::uint64_t standby = 0;
    std::uint64_t in_flight = 0;
    std::uint64_t queued = 0;
    std::uint64_t held_bytes = 0;  ///< reserved on devices by all its replicas
    std::uint64_t cold_starts = 0;
    double per_second = 0;  ///< requests begun since the sample before; 0 in the first
  };
  struct Device {
    std::string name;  ///< "node/cuda:0"
    std::uint64_t reserved_bytes = 0;
    std::uint64_t budget_bytes = 0;
  };
  std::vector<Model> models;
  std::vector<Device> devices;
  std::map<std::uint64_t, std::uint64_t> served;  ///< by instance: requests so far, for the next sample's rates
};

/// From the answers to /admin/v1/models and /admin/v1/instances. `before` (may be null) was taken `elapsed` earlier.
TopSample read_sample(const boost::json::object& models, const boost::json::object& instances, const TopSample* before,
                      base::Duration elapsed);

enum class TopOrder { activity, name, rate, queued, memory, cold_starts };
const char* to_string(TopOrder order);

struct TopView {
  TopOrder order = TopOrder::activity;
  bool reversed = false;
  bool asleep_too = false;  ///< also models without replicas and requests

  /// A key that was pressed; false: it ends the program.
  bool press(char key);
};

/// At most `rows` lines of at most `columns` columns, without line ends. 0: no bound.
std::vector<std::string> render_top(const TopSample& sample, const TopView& view, std::size_t rows, std::size_t columns,
                                    const Terminal& terminal);

}  // namespace thaw::cli
