#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/units.h"
#include "sim/policy.h"
#include "sim/report.h"

namespace thaw::sim {

namespace {

constexpr double kWidth = 720, kHeight = 300, kLeft = 56, kBottom = 36, kTop = 12, kRight = 12;
constexpr double kMinDelay_s = 0.01;  ///< the left end of the delays' axis, which is logarithmic

const char* colour(std::size_t n) {
  constexpr const char* kColours[] = {"#0b6e99", "#4aa3c7", "#8fc9e0", "#444444", "#c0392b",
                                      "#e67e22", "#27ae60", "#8e44ad", "#b7950b"};
  return kColours[n % std::size(kColours)];
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// A plot's frame; x and y in [0, 1].
class Plot {
 public:
  explicit Plot(const std::string& title) {
    body_ = fmt::format("<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {} {}\" role=\"img\">\n", escaped(title),
                        kWidth, kHeight);
  }
  void tick_x(double x, const std::string& label) {
    body_ += fmt::format(
        "<line class=\"g\" x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\"/><text x=\"{0:.1f}\" "
        "y=\"{3:.1f}\" "
        "text-anchor=\"middle\">{4}</text>\n",
        px(x), py(0), py(1), py(0) + 18, escaped(label));
  }
  void tick_y(double y, const std::string& label) {
    body_ += fmt::format(
        "<line class=\"g\" x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{2:.1f}\" y2=\"{1:.1f}\"/><text x=\"{3:.1f}\" "
        "y=\"{4:.1f}\" "
        "text-anchor=\"end\">{5}</text>\n",
        px(0), py(y), px(1), px(0) - 6, py(y) + 4, escaped(label));
  }
  void line(const std::vector<std::pair<double, double>>& points, const std::string& name, std::size_t n) {
    body_ += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\" points=\"", colour(n));
    for (const auto& [x, y] : points) body_ += fmt::format("{:.1f},{:.1f} ", px(x), py(y));
    body_ += fmt::format("\"><title>{}</title></polyline>\n", escaped(name));
  }
  [[nodiscard]] std::string finish() const { return body_ + "</svg></figure>\n"; }

 private:
  static double px(double x) { return kLeft + std::clamp(x, 0.0, 1.0) * (kWidth - kLeft - kRight); }
  static double py(double y) { return kHeight - kBottom - std::clamp(y, 0.0, 1.0) * (kHeight - kBottom - kTop); }
  std::string body_;
};

std::string delays_plot(const Experiment& e) {
  Plot plot(e.durations ? "Share of requests that have begun, by delay"
                        : "Share of requests with their first token, by time");
  const double decades = 5;  // 10 ms to 1,000 s
  const auto x_of = [&](double s) { return std::log10(std::max(s, kMinDelay_s) / kMinDelay_s) / decades; };
  for (const double s : {0.01, 0.1, 1.0, 5.0, 10.0, 100.0, 1000.0}) plot.tick_x(x_of(s), fmt::format("{:g} s", s));
  for (const double share : {0.0, 0.25, 0.5, 0.75, 1.0}) plot.tick_y(share, fmt::format("{:.0f}%", share * 100));
  for (std::size_t n = 0; n < e.results.size(); ++n) {
    const Outcome& o = e.results[n].outcome;
    std::vector<float> sorted;
    for (const float delay : o.delay_s) {
      if (delay != Outcome::kRefused) sorted.push_back(delay);
    }
    std::sort(sorted.begin(), sorted.end());
    std::vector<std::pair<double, double>> points;
    constexpr std::size_t kPoints = 400;
    for (std::size_t k = 0; k < kPoints && !sorted.empty(); ++k) {
      const std::size_t rank = k * (sorted.size() - 1) / (kPoints - 1);
      points.emplace_back(x_of(static_cast<double>(sorted[rank])),
                          static_cast<double>(rank + 1) / static_cast<double>(o.delay_s.size()));
    }
    plot.line(points, o.policy, n);
  }
  return plot.finish();
}

std::string held_plot(const Experiment& e) {
  Plot plot("Device memory held, in devices' worth, over the trace's time");
  double most = 0;
  for (const PolicyResult& r : e.results) {
    for (const float held : r.outcome.held_by_slice) most = std::max(most, static_cast<double>(held));
  }
  most = std::max(most, 1e-9);
  for (int quarter = 0; quarter <= 4; ++quarter) {
    plot.tick_y(quarter / 4.0, fmt::format("{:.2g}", most * quarter / 4));
    plot.tick_x(quarter / 4.0, base::format_duration(std::chrono::duration_cast<base::Seconds>(e.span * quarter / 4)));
  }
  for (std::size_t n = 0; n < e.results.size(); ++n) {
    const auto& held = e.results[n].outcome.held_by_slice;
    std::vector<std::pair<double, double>> points;
    for (std::size_t k = 0; k < held.size(); ++k)
      points.emplace_back((static_cast<double>(k) + 0.5) / static_cast<double>(held.size()),
                          static_cast<double>(held[k]) / most);
    plot.line(points, e.results[n].outcome.policy, n);
  }
  return plot.finish();
}

std::string result_row(const PolicyResult& r, const Experiment& e, std::size_t n) {
  const Outcome& o = r.outcome;
  std::string row = fmt::format(
      "<tr><td><span class=\"k\" "
      "style=\"background:{}\"></span>{}</td><td>{:.2f}</td><td>{:.2f}</td><td>{:.2f}%</td><td>{}</td><td>{}</td>"
      "<td>{:.2f}</td><td>{:.2f}</td><td>{:.2f}</td><td>{}</td><td>{:.3f}</td><td>{} / {} / {}</td>",
      colour(n), escaped(o.policy), o.p50_s, o.p99_s, o.within_5s * 100, o.refused, o.cold, o.device_hours(),
      e.bound.held_device_s > 0 ? o.held_device_s / e.bound.held_device_s : 0, o.used_device_hours(), o.peak_devices,
      o.cost_per_1000(e.device_hour_price), o.wakes, o.restores, o.starts);
  if (e.looked_for_smallest) {
    row += r.smallest_devices > 0
               ? fmt::format("<td>{}</td><td>{:.2f}</td>", r.smallest_devices, r.smallest_device_hours)
               : "<td>none</td><td></td>";
  }
  return row + "</tr>\n";
}

std::string results_table(const Experiment& e) {
  std::string table = "<table><tr>";
  for (const char* header :
       {"policy", "p50 s", "p99 s", "within 5 s", "refused", "cold", "device-hours", "/ lower bound",
        "hours of used devices", "most devices", "USD / 1,000", "wakes / restores / starts"})
    table += fmt::format("<th>{}</th>", header);
  if (e.looked_for_smallest) table += "<th>devices for 99% within 5 s</th><th>device-hours there</th>";
  table += "</tr>\n";
  for (std::size_t n = 0; n < e.results.size(); ++n) table += result_row(e.results[n], e, n);
  return table + "</table>\n";
}

std::string policies_list(const Experiment& e) {
  std::string list = "<h2>Policies</h2><dl>\n";
  for (const PolicyInfo& info : policies()) {
    const bool ran = std::any_of(e.results.begin(), e.results.end(),
                                 [&](const PolicyResult& r) { return r.outcome.policy == info.name; });
    if (!ran) continue;
    list += fmt::format("<dt>{}</dt><dd>{}<br>", escaped(info.name), escaped(info.describes));
    for (const std::string& source : info.sources) list += fmt::format("<small>{}</small><br>", escaped(source));
    list += "</dd>\n";
  }
  return list + "</dl>\n";
}

constexpr const char* kHead = R"(<!doctype html><html lang="en"><meta charset="utf-8"><title>thaw sim</title><style>
body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:76em;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}th,td{padding:.25em .7em;text-align:right;border-bottom:1px solid #ddd}
th{font-weight:600;vertical-align:bottom}td:first-child,th:first-child{text-align:left;white-space:nowrap}
figure{display:inline-block;width:48%;min-width:30em;margin:0 .5em 1em 0}figcaption{font-weight:600}svg{width:100%}
svg text{font-size:11px;fill:#555}.g{stroke:#e4e4e4}.k{display:inline-block;width:.8em;height:.8em;margin-right:.5em}
dt{font-weight:600}dd{margin:0 0 .6em 1em}small{color:#666}</style>
)";

}  // namespace

std::string to_html(const Experiment& e) {
  std::string page = kHead;
  page += fmt::format(
      "<h1>{}</h1><p>{} requests to {} models in {}. Fleet: {}, {} devices. Judged by {}. No policy that begins every "
      "request as it "
      "arrives can hold less than {:.2f} device-hours.</p>\n",
      escaped(e.trace), e.requests, e.models, base::format_duration(std::chrono::duration_cast<base::Seconds>(e.span)),
      escaped(e.fleet), e.devices, e.durations ? "start delay" : "time to first token", e.bound.device_hours());
  page += results_table(e) + delays_plot(e) + held_plot(e) + policies_list(e);
  return page + "</html>\n";
}

}  // namespace thaw::sim
