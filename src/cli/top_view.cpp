#include "cli/top_view.h"

#include <algorithm>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/json.h"
#include "cli/table.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;
using Align = Table::Align;
using Model = TopSample::Model;

constexpr std::size_t kBarColumns = 30;
constexpr const char* kKeys = "q ends   s sorts by the next   r turns it round   a shows those asleep, too";

bool is_active(const Model& model) {
  return model.replicas + model.standby + model.in_flight + model.queued > 0 || model.state == "backoff";
}

/// Larger is further up; names are compared apart.
double weight_of(const Model& model, TopOrder order) {
  switch (order) {
    case TopOrder::activity:
      return static_cast<double>(model.in_flight + model.queued) + model.per_second + (model.replicas > 0 ? 0.5 : 0) +
             (model.standby > 0 ? 0.25 : 0);
    case TopOrder::rate:
      return model.per_second;
    case TopOrder::queued:
      return static_cast<double>(model.queued);
    case TopOrder::memory:
      return static_cast<double>(model.held_bytes);
    case TopOrder::cold_starts:
      return static_cast<double>(model.cold_starts);
    case TopOrder::name:
      return 0;
  }
  return 0;
}

std::vector<const Model*> in_order(const TopSample& sample, const TopView& view) {
  std::vector<const Model*> rows;
  for (const Model& model : sample.models)
    if (view.asleep_too || is_active(model)) rows.push_back(&model);
  std::stable_sort(rows.begin(), rows.end(), [&](const Model* a, const Model* b) {
    const double left = weight_of(*a, view.order);
    const double right = weight_of(*b, view.order);
    const bool before = left != right ? left > right : a->name < b->name;
    return view.reversed ? (left != right ? left < right : b->name < a->name) : before;
  });
  return rows;
}

Style style_of(const std::string& state) {
  if (state == "ready") return Style::green;
  if (state == "backoff") return Style::red;
  return state == "asleep" || state == "standby" ? Style::dim : Style::yellow;
}

std::string bar(const TopSample::Device& device, const Terminal& terminal) {
  const double full = device.budget_bytes == 0
                          ? 0
                          : static_cast<double>(device.reserved_bytes) / static_cast<double>(device.budget_bytes);
  const auto filled = static_cast<std::size_t>(std::clamp(full, 0.0, 1.0) * kBarColumns + 0.5);
  std::string text;
  for (std::size_t i = 0; i < kBarColumns; ++i)
    text += i < filled ? (terminal.utf8 ? "█" : "#") : (terminal.utf8 ? "░" : ".");
  return fmt::format("{:<16} {} {} of {}", device.name,
                     styled(text, full > 0.9 ? Style::yellow : Style::green, terminal.colours),
                     base::format_bytes(device.reserved_bytes), base::format_bytes(device.budget_bytes));
}

/// The first `columns` of a line; what styles it takes no column.
std::string cut(const std::string& line, std::size_t columns) {
  if (columns == 0) return line;
  std::string out;
  std::size_t width = 0;
  for (std::size_t i = 0; i < line.size();) {
    std::size_t end = i + 1;
    if (line[i] == '\x1b') {
      while (end < line.size() && line[end - 1] != 'm') ++end;
    } else {
      while (end < line.size() && (static_cast<unsigned char>(line[end]) & 0xC0U) == 0x80U) ++end;
      if (++width > columns) {
        i = end;
        continue;  // go on: a style's end may follow
      }
    }
    out.append(line, i, end - i);
    i = end;
  }
  return out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::string summary(const TopSample& sample) {
  std::uint64_t up = 0, standby = 0, running = 0, queued = 0;
  double rate = 0;
  for (const Model& model : sample.models) {
    up += model.replicas;
    standby += model.standby;
    running += model.in_flight;
    queued += model.queued;
    rate += model.per_second;
  }
  return fmt::format("{} models, {} replicas up, {} in standby; {} requests running, {} queued, {:.1f}/s",
                     sample.models.size(), up, standby, running, queued, rate);
}

}  // namespace

TopSample read_sample(const json::object& models, const json::object& instances, const TopSample* before,
                      base::Duration elapsed) {
  TopSample sample;
  std::map<std::string, std::uint64_t> held;
  std::map<std::string, std::uint64_t> begun;
  for (const json::object* instance : objects_of(instances, "instances")) {
    const std::string model = text_of(*instance, "model");
    const std::uint64_t id = count_of(*instance, "id");
    const std::uint64_t served = count_of(*instance, "served") + count_of(*instance, "in_flight");
    held[model] += count_of(*instance, "device_bytes");
    sample.served[id] = served;
    if (before == nullptr) continue;
    const auto known = before->served.find(id);
    const std::uint64_t earlier = known == before->served.end() ? 0 : known->second;
    begun[model] += served > earlier ? served - earlier : 0;
  }
  const double seconds = base::to_ms(elapsed) / 1000;
  for (const json::object* model : objects_of(models, "models")) {
    Model one{text_of(*model, "name"),
              text_of(*model, "state"),
              count_of(*model, "ready") + count_of(*model, "starting") + count_of(*model, "waking"),
              count_of(*model, "standby") + count_of(*model, "freezing"),
              count_of(*model, "in_flight"),
              count_of(*model, "queued"),
              0,
              count_of(*model, "cold_starts"),
              0};
    one.held_bytes = held[one.name];
    if (seconds > 0) one.per_second = static_cast<double>(begun[one.name]) / seconds;
    sample.models.push_back(std::move(one));
  }
  for (const json::object* device : objects_of(instances, "devices"))
    sample.devices.push_back({text_of(*device, "node") + "/" + text_of(*device, "id"),
                              count_of(*device, "reserved_bytes"), count_of(*device, "budget_bytes")});
  return sample;
}

const char* to_string(TopOrder order) {
  switch (order) {
    case TopOrder::activity:
      return "activity";
    case TopOrder::name:
      return "name";
    case TopOrder::rate:
      return "requests/s";
    case TopOrder::queued:
      return "queued";
    case TopOrder::memory:
      return "memory";
    case TopOrder::cold_starts:
      return "cold starts";
  }
  return "activity";
}

bool TopView::press(char key) {
  constexpr int kOrders = static_cast<int>(TopOrder::cold_starts) + 1;
  if (key == 's') order = static_cast<TopOrder>((static_cast<int>(order) + 1) % kOrders);
  if (key == 'r') reversed = !reversed;
  if (key == 'a') asleep_too = !asleep_too;
  return key != 'q' && key != '\x03' && key != '\x04';
}

std::vector<std::string> render_top(const TopSample& sample, const TopView& view, std::size_t rows, std::size_t columns,
                                    const Terminal& terminal) {
  std::vector<std::string> lines{summary(sample)};
  for (const TopSample::Device& device : sample.devices) lines.push_back(bar(device, terminal));
  lines.push_back(
      styled(fmt::format("sorted by {}{}   {}", to_string(view.order), view.reversed ? ", turned round" : "", kKeys),
             Style::dim, terminal.colours));
  Table table({{"MODEL"},
               {"STATE"},
               {"UP", Align::right},
               {"STANDBY", Align::right},
               {"ACTIVE", Align::right},
               {"QUEUED", Align::right},
               {"REQ/S", Align::right},
               {"MEMORY", Align::right},
               {"COLD", Align::right}});
  for (const Model* model : in_order(sample, view))
    table.add({{model->name, Style::bold},
               {model->state, style_of(model->state)},
               {std::to_string(model->replicas)},
               {std::to_string(model->standby)},
               {std::to_string(model->in_flight)},
               {std::to_string(model->queued)},
               {fmt::format("{:.1f}", model->per_second)},
               {model->held_bytes == 0 ? "-" : base::format_bytes(model->held_bytes)},
               {std::to_string(model->cold_starts)}});
  for (std::string& line : lines_of(table.render(terminal.colours))) lines.push_back(std::move(line));
  if (rows > 0 && lines.size() > rows) lines.resize(rows);
  for (std::string& line : lines) line = cut(line, columns);
  return lines;
}

}  // namespace thaw::cli
