#include "spec/usage_prices.h"

#include <algorithm>

#include "spec/fields.h"

namespace thaw::spec {
namespace {

constexpr double kMaxPrice = 1e6;

Table<UsagePrice> price_table() {
  return {real("deviceSecond", &UsagePrice::device_second, 0, kMaxPrice), real("promptTokens1k", &UsagePrice::prompt_tokens_1k, 0, kMaxPrice),
          real("completionTokens1k", &UsagePrice::completion_tokens_1k, 0, kMaxPrice)};
}

void read_currency(const Cursor& at, UsagePrices& into) {
  std::string text;
  if (!read_text(at, text)) return;
  const bool right = text.size() == 3 && std::all_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (right)
    into.currency = text;
  else
    at.refuse("must be a currency's three letters, like EUR");
}

/// After the standard prices, which they begin with.
void read_models(const Cursor& at, UsagePrices& into) {
  if (at.value.kind != YamlValue::Kind::mapping) return at.refuse("must be a mapping of models' names to prices");
  for (std::size_t i = 0; i < at.value.items.size(); ++i) {
    const std::string& name = at.value.keys[i].text;
    const Cursor model = at.child(name, at.value.items[i]);
    UsagePrice price = into.standard;
    read_table(model, price_table(), price);
    if (!into.models.emplace(name, price).second) model.refuse("given twice");
  }
}

}  // namespace

double UsagePrices::cost(const std::string& model, std::uint64_t device_us, std::uint64_t prompt_tokens, std::uint64_t completion_tokens) const {
  const auto own = models.find(model);
  const UsagePrice& price = own == models.end() ? standard : own->second;
  return static_cast<double>(device_us) * price.device_second / 1e6 + static_cast<double>(prompt_tokens) * price.prompt_tokens_1k / 1e3 +
         static_cast<double>(completion_tokens) * price.completion_tokens_1k / 1e3;
}

void read_prices(const Cursor& at, UsagePrices& into) {
  const Table<UsagePrices> table{
      required<UsagePrices>({"currency", read_currency}),
      {"deviceSecond", [](const Cursor& value, UsagePrices& prices) { read_real(value, 0, kMaxPrice, prices.standard.device_second); }},
      {"promptTokens1k", [](const Cursor& value, UsagePrices& prices) { read_real(value, 0, kMaxPrice, prices.standard.prompt_tokens_1k); }},
      {"completionTokens1k", [](const Cursor& value, UsagePrices& prices) { read_real(value, 0, kMaxPrice, prices.standard.completion_tokens_1k); }},
      {"models", read_models}};
  read_table(at, table, into);
}

}  // namespace thaw::spec
