#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "make_model/lora.h"
#include "make_model/model_file.h"
#include "make_model/options.h"
#include "make_model/vocabulary.h"
#include "make_model/weights.h"

namespace thaw::make_model {
namespace {

namespace fs = std::filesystem;

class TempDir {
 public:
  TempDir() {
    std::string pattern = (fs::temp_directory_path() / "make-model-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() { fs::remove_all(path_); }
  [[nodiscard]] fs::path file(const std::string& name) const { return path_ / name; }
  [[nodiscard]] std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

std::string read_all(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

/// A reader of GGUF of its own, so that a misread format does not agree with itself.
class Gguf {
 public:
  struct Info {
    std::vector<std::uint64_t> dimensions;
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
  };

  explicit Gguf(std::string bytes) : bytes_(std::move(bytes)) {
    magic = take(4);
    version = number<std::uint32_t>();
    const auto tensor_count = number<std::uint64_t>();
    const auto key_count = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < key_count; ++i) {
      const std::string key = text();
      value(key, number<std::uint32_t>());
    }
    for (std::uint64_t i = 0; i < tensor_count; ++i) {
      const std::string name = text();
      Info info;
      info.dimensions.resize(number<std::uint32_t>());
      for (auto& dimension : info.dimensions) dimension = number<std::uint64_t>();
      info.type = number<std::uint32_t>();
      info.offset = number<std::uint64_t>();
      tensors.emplace(name, info);
    }
    data_start = (at_ + 31) / 32 * 32;
  }

  [[nodiscard]] std::string_view data(std::uint64_t offset, std::size_t size) const {
    return std::string_view(bytes_).substr(data_start + offset, size);
  }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }

  std::string magic;
  std::uint32_t version = 0;
  std::size_t data_start = 0;
  std::map<std::string, std::string> texts;
  std::map<std::string, double> numbers;
  std::map<std::string, std::vector<std::string>> lists;
  std::map<std::string, Info> tensors;

 private:
  std::string take(std::size_t size) {
    if (at_ + size > bytes_.size()) throw std::out_of_range("the file ends inside its header");
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  template <typename T>
  T number() {
    T value{};
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string text() { return take(number<std::uint64_t>()); }
  void value(const std::string& key, std::uint32_t type) {
    if (type == 8) {
      texts[key] = text();
    } else if (type == 9) {
      const auto element = number<std::uint32_t>();
      const auto count = number<std::uint64_t>();
      auto& list = lists[key];
      for (std::uint64_t i = 0; i < count; ++i) list.push_back(element == 8 ? text() : std::to_string(scalar(element)));
    } else {
      numbers[key] = scalar(type);
    }
  }
  double scalar(std::uint32_t type) {
    if (type == 4) return number<std::uint32_t>();
    if (type == 5) return number<std::int32_t>();
    if (type == 6) return static_cast<double>(number<float>());
    if (type == 7) return number<std::uint8_t>();
    throw std::invalid_argument("unexpected metadata type " + std::to_string(type));
  }

  std::string bytes_;
  std::size_t at_ = 0;
};

Options options_for(const fs::path& out, WeightType type, std::uint64_t size_bytes = 1'000'000) {
  Options options;
  options.size_bytes = size_bytes;
  options.type = type;
  options.out = out;
  return options;
}

float half(std::string_view bytes) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, bytes.data(), 2);
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                        : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

class MakeModelFile : public testing::TestWithParam<WeightType> {};

TEST_P(MakeModelFile, HasAHeaderThatDescribesALlama) {
  const TempDir dir;
  Options options = options_for(dir.file("m.gguf"), GetParam());
  options.context = 512;
  options.name = "someone";
  const auto made = write_model(options);
  ASSERT_TRUE(made.ok()) << made.error().message;
  const Gguf gguf(read_all(options.out));

  EXPECT_EQ(gguf.magic, "GGUF");
  EXPECT_EQ(gguf.version, 3U);
  EXPECT_EQ(gguf.texts.at("general.architecture"), "llama");
  EXPECT_EQ(gguf.texts.at("general.name"), "someone");
  EXPECT_EQ(gguf.numbers.at("general.file_type"), GetParam() == WeightType::f16 ? 1 : 2);
  EXPECT_EQ(gguf.numbers.at("llama.context_length"), 512);
  EXPECT_EQ(gguf.numbers.at("llama.block_count"), made->shape.layers);
  const double heads = gguf.numbers.at("llama.attention.head_count");
  EXPECT_EQ(std::fmod(heads, gguf.numbers.at("llama.attention.head_count_kv")), 0);
  EXPECT_EQ(gguf.numbers.at("llama.rope.dimension_count") * heads, gguf.numbers.at("llama.embedding_length"));
  EXPECT_EQ(gguf.texts.at("tokenizer.ggml.model"), "llama");
  EXPECT_NE(gguf.texts.at("tokenizer.chat_template").find("message['content']"), std::string::npos);

  const auto& tokens = gguf.lists.at("tokenizer.ggml.tokens");
  EXPECT_EQ(gguf.lists.at("tokenizer.ggml.scores").size(), tokens.size());
  EXPECT_EQ(gguf.lists.at("tokenizer.ggml.token_type").size(), tokens.size());
  EXPECT_EQ(gguf.numbers.at("llama.vocab_size"), static_cast<double>(tokens.size()));
  EXPECT_EQ(tokens.at(static_cast<std::size_t>(gguf.numbers.at("tokenizer.ggml.bos_token_id"))), "<s>");
  EXPECT_EQ(tokens.at(static_cast<std::size_t>(gguf.numbers.at("tokenizer.ggml.eos_token_id"))), "</s>");
  EXPECT_EQ(tokens.at(3), "<0x00>");
  EXPECT_EQ(tokens.at(258), "<0xFF>");
}

TEST_P(MakeModelFile, HasTensorsThatFillTheFileExactly) {
  const TempDir dir;
  const Options options = options_for(dir.file("m.gguf"), GetParam());
  const auto made = write_model(options);
  ASSERT_TRUE(made.ok()) << made.error().message;
  const Gguf gguf(read_all(options.out));

  EXPECT_EQ(gguf.tensors.size(), 3U + 9U * made->shape.layers);
  EXPECT_EQ(gguf.tensors.at("token_embd.weight").dimensions,
            (std::vector<std::uint64_t>{made->shape.embedding, made->shape.vocabulary}));
  std::map<std::uint64_t, std::uint64_t> ends;  // start -> end
  for (const auto& [name, info] : gguf.tensors) {
    std::uint64_t values = 1;
    for (const std::uint64_t dimension : info.dimensions) values *= dimension;
    const std::uint64_t bytes = info.type == 0 ? values * 4 : info.type == 1 ? values * 2 : values / 32 * 18;
    EXPECT_EQ(info.type, info.dimensions.size() == 1 ? 0U : GetParam() == WeightType::f16 ? 1U : 2U) << name;
    EXPECT_EQ(info.offset % 32, 0U) << name;
    ends[info.offset] = info.offset + bytes;
  }
  std::uint64_t end = 0;
  for (const auto& [start, this_end] : ends) {
    EXPECT_GE(start, end);
    EXPECT_LT(start - end, 32U);
    end = this_end;
  }
  EXPECT_EQ(gguf.data_start + end, gguf.size());
  EXPECT_EQ(made->file_bytes, gguf.size());
}

TEST_P(MakeModelFile, IsTheSameForASeedAndAnotherForAnother) {
  const TempDir dir;
  Options options = options_for(dir.file("a"), GetParam());
  ASSERT_TRUE(write_model(options).ok());
  options.out = dir.file("b");
  ASSERT_TRUE(write_model(options).ok());
  options.out = dir.file("c");
  options.seed = 1;
  ASSERT_TRUE(write_model(options).ok());
  const std::string a = read_all(dir.file("a")), c = read_all(dir.file("c"));
  EXPECT_TRUE(a == read_all(dir.file("b")));
  ASSERT_EQ(a.size(), c.size());
  std::size_t differing = 0;
  for (std::size_t i = 0; i < a.size(); ++i) differing += a[i] != c[i] ? 1U : 0U;
  EXPECT_GT(differing, a.size() / 2);
}

TEST_P(MakeModelFile, HasNoHolesAndNoTwoPagesAlike) {
  const TempDir dir;
  const Options options = options_for(dir.file("m.gguf"), GetParam(), 8'000'000);
  const auto made = write_model(options);
  ASSERT_TRUE(made.ok()) << made.error().message;
  const int fd = ::open(options.out.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(::lseek(fd, 0, SEEK_HOLE), static_cast<off_t>(made->file_bytes));
  ::close(fd);
  const std::string bytes = read_all(options.out);
  std::set<std::string> pages;
  std::size_t count = 0;
  for (std::size_t at = 0; at + 4096 <= bytes.size(); at += 4096, ++count) pages.insert(bytes.substr(at, 4096));
  EXPECT_EQ(pages.size(), count);
}

TEST_P(MakeModelFile, IsWithinFivePercentOfItsSize) {
  const TempDir dir;
  for (const std::uint64_t size_bytes : {8'000'000ULL, 12'345'678ULL, 64ULL << 20}) {
    const Options options = options_for(dir.file("m.gguf"), GetParam(), size_bytes);
    ASSERT_TRUE(write_model(options).ok());
    EXPECT_NEAR(static_cast<double>(fs::file_size(options.out)), static_cast<double>(size_bytes),
                static_cast<double>(size_bytes) * 0.05);
  }
}

TEST_P(MakeModelFile, HasWeightsCentredOnZeroSoThatWideRowsDoNotDrift) {
  constexpr std::uint64_t kColumns = 4096, kRows = 64;
  const GgmlType type = GetParam() == WeightType::f16 ? GgmlType::f16 : GgmlType::q4_0;
  const Tensor tensor{.name = "w", .columns = kColumns, .rows = kRows, .type = type, .role = Role::matrix};
  std::vector<std::uint8_t> bytes(row_bytes(type, kColumns) * kRows);
  fill_rows(tensor, 5, 7, make_vocabulary(), 0, bytes);
  const std::string_view view(std::bit_cast<const char*>(bytes.data()), bytes.size());
  double sum = 0, squares = 0;
  const auto add = [&](double value) { sum += value, squares += value * value; };
  if (type == GgmlType::f16) {
    for (std::size_t at = 0; at < view.size(); at += 2) add(static_cast<double>(half(view.substr(at, 2))));
  } else {
    for (std::size_t at = 0; at < view.size(); at += 18)
      for (std::size_t i = 0; i < 16; ++i) {
        const double scale = static_cast<double>(half(view.substr(at, 2)));
        add(scale * ((bytes[at + 2 + i] & 15) - 8));
        add(scale * ((bytes[at + 2 + i] >> 4) - 8));
      }
  }
  const double count = static_cast<double>(kColumns * kRows);
  const double deviation = std::sqrt(squares / count);
  // An output of a row is about sqrt(columns) * deviation; meant to be 0.5.
  EXPECT_NEAR(deviation * std::sqrt(static_cast<double>(kColumns)), 0.5, 0.2);
  // The mean of that many independent values has a deviation of 1/512 of theirs.
  EXPECT_LT(std::abs(sum / count), deviation * 5 / 512);
}

TEST_P(MakeModelFile, GivesTheSameRowsInPiecesAsAtOnce) {
  const Vocabulary vocabulary = make_vocabulary();
  const GgmlType type = GetParam() == WeightType::f16 ? GgmlType::f16 : GgmlType::q4_0;
  const Tensor tensor{.name = "e", .columns = 96, .rows = vocabulary.size(), .type = type, .role = Role::output};
  const std::uint64_t bytes = row_bytes(type, tensor.columns);
  std::vector<std::uint8_t> whole(bytes * tensor.rows), pieces(whole.size());
  fill_rows(tensor, 1, 2, vocabulary, 0, whole);
  for (std::uint64_t row = 0; row < tensor.rows; row += 7) {
    const std::uint64_t rows = std::min<std::uint64_t>(7, tensor.rows - row);
    fill_rows(tensor, 1, 2, vocabulary, row, std::span(pieces).subspan(row * bytes, rows * bytes));
  }
  EXPECT_TRUE(whole == pieces);
}

INSTANTIATE_TEST_SUITE_P(Types, MakeModelFile, testing::Values(WeightType::f16, WeightType::q4_0),
                         [](const auto& type) { return type.param == WeightType::f16 ? "F16" : "Q4_0"; });

TEST(MakeModelShape, FitsEverySizeWithoutWritingIt) {
  for (const WeightType type : {WeightType::f16, WeightType::q4_0})
    for (double size = 8e6; size <= static_cast<double>(kMaxSize_bytes); size *= 1.17) {
      const auto shape = choose_shape(static_cast<std::uint64_t>(size), type, 800);
      ASSERT_TRUE(shape.ok()) << shape.error().message;
      EXPECT_NEAR(static_cast<double>(data_bytes(list_tensors(*shape))), size, size * 0.02);
      EXPECT_EQ(shape->embedding % 32, 0U);
      EXPECT_EQ(shape->feed_forward % 32, 0U);
      EXPECT_EQ(shape->heads * shape->head_size, shape->embedding);
      EXPECT_EQ(shape->heads % shape->kv_heads, 0U);
    }
}

TEST(MakeModelShape, RefusesWhatNoShapeIsAsSmallAs) {
  EXPECT_FALSE(choose_shape(50'000, WeightType::f16, 800).ok());
}

TEST(MakeModelVocabulary, HasEachTokenOnceAndEveryBeginningOfAWord) {
  const Vocabulary vocabulary = make_vocabulary();
  const std::set<std::string> tokens(vocabulary.tokens.begin(), vocabulary.tokens.end());
  EXPECT_EQ(tokens.size(), vocabulary.tokens.size());
  const std::string space = "\xE2\x96\x81";
  std::size_t answers = 0;
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    answers += vocabulary.answers[i] ? 1U : 0U;
    const std::string& token = vocabulary.tokens[i];
    if (token.size() > space.size() + 1 && token.starts_with(space)) {
      EXPECT_TRUE(tokens.contains(token.substr(0, token.size() - 1))) << token;
    }
  }
  EXPECT_GT(answers, 200U);
  EXPECT_FALSE(vocabulary.answers[vocabulary.eos]);
  EXPECT_FALSE(vocabulary.answers[vocabulary.bos]);
}

TEST(MakeModelHalf, MatchesIeee) {
  for (const float value : {1.0F, -8.0F, 3.5F, 0.5F, 0.00390625F, 0.0F}) {
    const std::uint16_t bits = to_half(value);
    EXPECT_EQ(half({std::bit_cast<const char*>(&bits), 2}), value);
  }
}

TEST(MakeModelFailure, KeepsTheOldFileAndLeavesNoPartialOne) {
  const TempDir dir;
  std::ofstream(dir.file("m.gguf")) << "old";
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 500'000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto made = write_model(options_for(dir.file("m.gguf"), WeightType::f16));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message.find("m.gguf"), std::string::npos);
  EXPECT_EQ(read_all(dir.file("m.gguf")), "old");
  EXPECT_EQ(dir.entries(), 1U);
}

TEST(MakeModelFailure, LetsOnlyOneWriterHaveAFile) {
  const TempDir dir;
  const int fd = ::open(dir.file("m.gguf.partial").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);
  const Options options = options_for(dir.file("m.gguf"), WeightType::f16);
  const auto refused = write_model(options);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, base::ErrorKind::conflict);
  EXPECT_TRUE(fs::exists(dir.file("m.gguf.partial")));
  ::close(fd);
  // What a killed writer leaves is taken over.
  EXPECT_TRUE(write_model(options).ok());
  EXPECT_EQ(dir.entries(), 1U);
}

TEST(MakeModelFailure, RefusesWhatIsOutOfRange) {
  const TempDir dir;
  const auto refused = [&](auto change) {
    Options options = options_for(dir.file("m.gguf"), WeightType::f16);
    change(options);
    const auto made = write_model(options);
    return !made.ok() && made.error().kind == base::ErrorKind::invalid && dir.entries() == 0;
  };
  EXPECT_TRUE(refused([](Options& o) { o.size_bytes = kMinSize_bytes - 1; }));
  EXPECT_TRUE(refused([](Options& o) { o.size_bytes = kMaxSize_bytes + 1; }));
  EXPECT_TRUE(refused([](Options& o) { o.context = 0; }));
  EXPECT_TRUE(refused([](Options& o) { o.out.clear(); }));
  EXPECT_TRUE(refused([](Options& o) { o.out = o.out.parent_path(); }));
  EXPECT_FALSE(write_model(options_for(dir.file("none/m.gguf"), WeightType::f16)).ok());
}

base::Result<std::optional<Options>> parse(std::vector<const char*> arguments) {
  return parse_options(arguments);
}

TEST(MakeModelOptions, AreRead) {
  const auto parsed =
      parse({"--size", "64MB", "--type", "q4_0", "--out", "x", "--context", "99", "--seed", "5", "--name", "n"});
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const Options& options = parsed.value().value();
  EXPECT_EQ(options.size_bytes, 64'000'000U);
  EXPECT_EQ(options.type, WeightType::q4_0);
  EXPECT_EQ(options.out, "x");
  EXPECT_EQ(options.context, 99U);
  EXPECT_EQ(options.seed, 5U);
  EXPECT_EQ(options.name, "n");
  EXPECT_FALSE(parse({"--help"}).value().has_value());
}

TEST(MakeModelOptions, AreRefusedByName) {
  const auto message = [](std::vector<const char*> arguments) {
    const auto parsed = parse(std::move(arguments));
    return parsed.ok() ? std::string("accepted") : parsed.error().message;
  };
  EXPECT_NE(message({}).find("--size is missing"), std::string::npos);
  EXPECT_NE(message({"--size", "1MB"}).find("--type is missing"), std::string::npos);
  EXPECT_NE(message({"--size", "1MB", "--type", "f16"}).find("--out is missing"), std::string::npos);
  EXPECT_NE(message({"--size"}).find("--size wants a value"), std::string::npos);
  EXPECT_NE(message({"--size", "big"}).find("--size"), std::string::npos);
  EXPECT_NE(message({"--type", "q8"}).find("f16 or q4_0"), std::string::npos);
  EXPECT_NE(message({"--seed", "-1"}).find("--seed wants a whole number"), std::string::npos);
  EXPECT_NE(message({"--context", "5x"}).find("--context wants a whole number"), std::string::npos);
  EXPECT_NE(message({"--colour", "red"}).find("unknown option '--colour'"), std::string::npos);
}

TEST(MakeLora, WritesTheSameBytesForTheSameOptionsAndOthersForAnotherSeed) {
  const TempDir dir;
  const auto made = [&](const char* name, std::uint64_t seed) {
    LoraOptions options{.out = dir.file(name), .layers = 2, .width = 64, .seed = seed};
    const auto bytes = write_lora(options);
    EXPECT_TRUE(bytes.ok()) << bytes.error().message;
    std::stringstream text;
    text << std::ifstream(dir.file(name), std::ios::binary).rdbuf();
    EXPECT_EQ(text.str().size(), bytes.ok() ? *bytes : 0);
    return text.str();
  };
  const std::string one = made("tone.gguf", 1);
  EXPECT_EQ(one.substr(0, 4), "GGUF");
  for (const char* part : {"adapter.lora.alpha", "blk.0.attn_q.weight.lora_a", "blk.1.attn_output.weight.lora_b"}) EXPECT_NE(one.find(part), std::string::npos) << part;
  EXPECT_GT(one.size(), 2U * 2 * 2 * 64 * 4 * sizeof(float)) << "layers, tensors, halves of width x rank";
  EXPECT_EQ(made("tone.gguf", 1), one);
  EXPECT_NE(made("tone.gguf", 2), one);
  EXPECT_FALSE(write_lora({.out = dir.file("x"), .layers = 0, .width = 64}).ok());
  EXPECT_FALSE(write_lora({.out = dir.file("nowhere/x"), .layers = 1, .width = 8}).ok());
}

TEST(MakeLora, ReadsItsOptions) {
  const auto read = [](std::vector<const char*> arguments) { return parse_lora_options(arguments); };
  const auto parsed = read({"--layers", "5", "--width", "64", "--rank", "8", "--scale", "0.5", "--seed", "3", "--arch", "qwen2", "--out", "x"});
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->layers, 5U);
  EXPECT_EQ(parsed->rank, 8U);
  EXPECT_EQ(parsed->scale, 0.5F);
  EXPECT_EQ(parsed->architecture, "qwen2");
  EXPECT_NE(read({"--layers", "5"}).error().message.find("--out is missing"), std::string::npos);
  EXPECT_NE(read({"--rank", "x", "--out", "y"}).error().message.find("whole number"), std::string::npos);
  EXPECT_NE(read({"--size", "1MB"}).error().message.find("unknown option"), std::string::npos);
}

}  // namespace
}  // namespace thaw::make_model
