#pragma once

#include <cstdint>
#include <map>
#include <queue>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/scheduler.h"
#include "scale/latency.h"

namespace thaw::bench {

struct Setting {
  std::uint32_t devices = 10'000;
  std::uint32_t models = 100'000;
  std::uint32_t asleep = 0;           ///< more models, which nobody ever asks for
  double requests_per_s = 2'000;
  double service_s = 6;               ///< mean time of an answer, exponentially distributed
  double zipf = 1.0;                  ///< exponent of the models' popularity
  bool automatic_idle = false;        ///< scaling.idle: auto
  std::uint32_t look_everywhere_up_to = control::Policy{}.look_everywhere_up_to;  ///< devices
  base::Duration warm_up = base::Seconds(300);
  base::Duration measured = base::Seconds(300);
  std::uint64_t seed = 1;
};

/// A fleet, its clients and their faults, played against one control::Scheduler on a simulated clock. Every call of the scheduler is timed by
/// itself; nothing else is.
///
/// Nodes have eight devices of 80 GiB and take as long as GPU nodes do: a start 20 to 40 s, a restore 1 to 3 s, a wake 0.3 to 1 s. One replica in
/// 500 dies under its requests, one start in 500 fails, one request in 200 is given up by its client.
class ScaleFleet {
 public:
  explicit ScaleFleet(const Setting& setting);

  void run();
  [[nodiscard]] const std::map<std::string, Latencies>& latencies() const { return latencies_; }  ///< by event, of the measured time
  [[nodiscard]] const control::Scheduler& scheduler() const { return scheduler_; }
  [[nodiscard]] std::uint64_t answered() const { return answered_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }
  [[nodiscard]] std::uint64_t cold() const { return cold_; }
  [[nodiscard]] std::uint64_t starts() const { return starts_; }   ///< starts and restores that were ordered
  [[nodiscard]] std::uint64_t wakes() const { return wakes_; }
  [[nodiscard]] std::uint64_t fingerprint() const { return fingerprint_; }  ///< of every decision, in order: two runs must agree

 private:
  enum class Kind : std::uint8_t { arrival, answering, end, fail, ready, start_failed, standby, taken, gone, image_gone, crash };
  struct Event {
    std::int64_t at_ns;
    std::uint64_t order;
    std::uint64_t id;     ///< of a request or an instance
    Kind kind;
    bool operator>(const Event& o) const { return at_ns != o.at_ns ? at_ns > o.at_ns : order > o.order; }
  };
  struct Replica {
    std::uint32_t model = 0, node = 0;
    wire::Way way = wire::Way::start;
    bool stopping = false;
    std::uint32_t turn = 0;  ///< events of an earlier order are stale
    base::ImageId image;     ///< that is made of it
    std::vector<std::uint64_t> requests;
  };

  std::uint64_t dice();
  double uniform();
  double exponential(double mean);
  std::uint32_t pick_model();
  void later(double seconds, Kind kind, std::uint64_t id);
  void step();
  void arrive();
  void lose(std::uint64_t instance, bool tell);
  template <typename Call>
  void call(const char* event, Call&& call);
  void carry_out();
  void on(const control::Start& a);
  void on(const control::Stop& a);
  void on(const control::Dispatch& a);
  void on(const control::Refuse& a);
  void on(const control::Freeze& a);
  void on(const control::Wake& a);
  void on(const control::Snapshot& a);
  void on(const control::Drop& a);
  void note(std::uint64_t what);

  Setting setting_;
  control::Scheduler scheduler_;
  control::Actions actions_;
  std::uint64_t state_;
  base::TimePoint now_{};
  bool measuring_ = false;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t planned_ = 0, next_request_ = 1;
  std::vector<double> popularity_;  ///< cumulated
  std::unordered_map<std::string, std::uint32_t> model_of_;
  std::unordered_map<std::uint64_t, Replica> replicas_;
  std::unordered_map<std::uint64_t, std::uint64_t> running_;  ///< request -> instance
  std::vector<base::ImageId> dropped_;
  std::map<std::string, Latencies> latencies_;
  std::uint64_t answered_ = 0, refused_ = 0, cold_ = 0, starts_ = 0, wakes_ = 0, fingerprint_ = 0;
};

}  // namespace thaw::bench
