// Files are written byte by byte from the description of the format: u64 little-endian header
// length, JSON header, data.
#include "core/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/files.h"
#include "core/json.h"
#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::error_of;
using test::Scratch;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

std::string little_endian(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

std::string file_of(const std::string& header, const std::string& data) {
  return little_endian(header.size()) + header + data;
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors_header({reinterpret_cast<const u8*>(file.data()), file.size()},
                                  static_cast<int64_t>(file.size()), "m.safetensors");
}

std::string refusal(const std::string& header, size_t data_bytes) {
  return error_of([&] { parse(file_of(header, std::string(data_bytes, '\0'))); });
}

/// "name": {dtype F32, shape [elements], at first} of a header.
std::string floats(const std::string& name, int elements, int first) {
  return "\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[" + std::to_string(elements) +
         "],\"data_offsets\":[" + std::to_string(first) + "," +
         std::to_string(first + 4 * elements) + "]}";
}

TEST(SafetensorsHeader, ListsTensorsByOffset) {
  const auto header = parse(file_of(
      "{" + floats("b", 2, 0) + "," + floats("a", 1, 8) + R"(,"__metadata__":{"format":"pt"}}   )",
      std::string(12, '\0')));
  ASSERT_EQ(header.entries.size(), 2U);
  EXPECT_EQ(header.entries[0].name, "b");
  EXPECT_EQ(header.entries[1].name, "a");
  EXPECT_EQ(header.entries[1].bytes, (Range{8, 12}));
  EXPECT_EQ(header.entries[0].shape, std::vector<int64_t>{2});
  EXPECT_EQ(header.metadata.at("format"), "pt");
}

TEST(SafetensorsHeader, KnowsEveryDtypeThatAViewHas) {
  const std::tuple<const char*, Dtype, int> dtypes[] = {
      {"F64", Dtype::f64, 8},     {"F32", Dtype::f32, 4}, {"F16", Dtype::f16, 2},
      {"BF16", Dtype::bf16, 2},   {"I64", Dtype::i64, 8}, {"I32", Dtype::i32, 4},
      {"I16", Dtype::i16, 2},     {"I8", Dtype::i8, 1},   {"U8", Dtype::u8, 1},
      {"BOOL", Dtype::boolean, 1}};
  for (const auto& [name, dtype, bytes] : dtypes) {
    const std::string json = std::string("{\"t\":{\"dtype\":\"") + name +
                             "\",\"shape\":[3],\"data_offsets\":[0," + std::to_string(3 * bytes) +
                             "]}}";
    EXPECT_EQ(parse(file_of(json, std::string(3 * bytes, '\0'))).entries[0].dtype, dtype);
  }
}

TEST(SafetensorsHeader, ScalarsAndEmptyTensorsAreLegal) {
  const auto header = parse(file_of(
      R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]},)"
      R"("f":{"dtype":"I8","shape":[2,0],"data_offsets":[4,4]}})",
      std::string(4, '\0')));
  ASSERT_EQ(header.entries.size(), 3U);
  EXPECT_EQ(header.entries[0].name, "e");
  EXPECT_EQ(header.entries[1].name, "s");
  EXPECT_TRUE(header.entries[1].shape.empty());
  EXPECT_TRUE(parse(file_of("{}", "")).entries.empty());
}

TEST(SafetensorsHeader, RefusesLengthsThatCannotBe) {
  const auto length = [](uint64_t value, const std::string& rest) {
    return error_of([&] { parse(little_endian(value) + rest); });
  };
  EXPECT_THAT(length(uint64_t{1} << 63, "{}"),
              HasSubstr("claims 9223372036854775808 bytes, allowed are 100000000"));
  EXPECT_THAT(length(~uint64_t{0}, "{}"), HasSubstr("claims 18446744073709551615"));
  EXPECT_THAT(length(100'000'001, "{}"), HasSubstr("allowed are 100000000"));
  EXPECT_EQ(length(3, "{}"),
            "E_FORMAT: m.safetensors: its header claims 3 bytes, the file has 2 after the length; "
            "the file is cut off");
  EXPECT_THAT(length(0, ""), HasSubstr("must start with `{`"));
  EXPECT_THAT(length(3, " {}"), HasSubstr("must start with `{`"));
  for (const size_t bytes : {0, 1, 7})
    EXPECT_THAT(error_of([&] { parse(std::string(bytes, '\0')); }), HasSubstr("too short"));
}

TEST(SafetensorsHeader, RefusesTensorsThatDoNotTileTheData) {
  const std::string a = floats("a", 2, 0);
  EXPECT_EQ(refusal("{" + a + "," + floats("b", 2, 4) + "}", 12),
            "E_FORMAT: m.safetensors: tensor `b`: overlaps the tensor before it");
  EXPECT_EQ(refusal("{" + a + "," + floats("b", 1, 0) + "}", 8),
            "E_FORMAT: m.safetensors: tensor `a`: overlaps the tensor before it");
  EXPECT_THAT(refusal("{" + a + "," + floats("b", 1, 12) + "}", 16),
              EndsWith("`b`: leaves a hole of 4 bytes before it"));
  EXPECT_THAT(refusal("{" + floats("a", 1, 4) + "}", 8),
              EndsWith("leaves a hole of 4 bytes before it"));
  EXPECT_THAT(refusal("{" + a + "}", 7),
              EndsWith("ends at byte 8 of 7 bytes of data; the file is cut off"));
  EXPECT_THAT(refusal("{" + a + "}", 9), EndsWith("1 bytes after the last tensor belong to none"));
  EXPECT_THAT(refusal("{}", 1), EndsWith("1 bytes after the last tensor belong to none"));
}

TEST(SafetensorsHeader, RefusesSizesThatDisagreeOrOverflow) {
  const auto with = [](const std::string& shape, const std::string& offsets) {
    return refusal(
        R"({"t":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", 8);
  };
  EXPECT_THAT(with("[3]", "[0,8]"), EndsWith("shape and dtype take 12 bytes, data_offsets give 8"));
  EXPECT_THAT(with("[4611686018427387904]", "[0,8]"), EndsWith("its size overflows 2^63 bytes"));
  EXPECT_THAT(with("[4294967296,4294967296,4294967296]", "[0,8]"),
              EndsWith("its size overflows 2^63 bytes"));
  EXPECT_THAT(with("[18446744073709551615]", "[0,8]"), EndsWith("integers from 0 to 2^63 - 1"));
  EXPECT_THAT(with("[2]", "[0,18446744073709551615]"), EndsWith("integers from 0 to 2^63 - 1"));
  EXPECT_THAT(with("[-2]", "[0,8]"), EndsWith("integers from 0 to 2^63 - 1"));
  EXPECT_THAT(with("[2.0]", "[0,8]"), EndsWith("integers from 0 to 2^63 - 1"));
  EXPECT_THAT(with("2", "[0,8]"), EndsWith("`shape` must be an array"));
  EXPECT_THAT(with("[2]", "[8,0]"), EndsWith("two rising offsets"));
  EXPECT_THAT(with("[2]", "[0,4,8]"), EndsWith("two rising offsets"));
  EXPECT_THAT(with("[2]", "{}"), EndsWith("`data_offsets` must be an array"));
}

TEST(SafetensorsHeader, RefusesEntriesThatAreNotTensors) {
  EXPECT_THAT(refusal(R"({"t":[]})", 0), EndsWith("tensor `t`: must be an object"));
  EXPECT_THAT(refusal(R"({"t":{"dtype":"F32","shape":[]}})", 0),
              EndsWith("`data_offsets` is missing"));
  EXPECT_THAT(refusal(R"({"t":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":1}})", 4),
              EndsWith("unknown key `x`"));
  EXPECT_THAT(refusal(R"({"t":{"dtype":4,"shape":[],"data_offsets":[0,4]}})", 4),
              EndsWith("`dtype` must be a string"));
  EXPECT_EQ(refusal(R"({"t":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})", 4),
            "E_FORMAT: m.safetensors: tensor `t`: dtype `F8_E4M3` is not one kvlab reads; known: "
            "F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL");
  EXPECT_THAT(refusal(R"({"__metadata__":[]})", 0), EndsWith("`__metadata__` must be an object"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"a":1}})", 0), EndsWith("metadata `a` must be a string"));
}

TEST(SafetensorsHeader, RefusesJsonThatIsNotStrict) {
  EXPECT_EQ(refusal("{" + floats("a", 1, 0) + "," + floats("a", 1, 4) + "}", 8),
            "E_FORMAT: m.safetensors: header: line 1, column 57: key `a` appears twice");
  EXPECT_THAT(refusal(R"({"__metadata__":{"k":"1","k":"2"}})", 0),
              HasSubstr("key `k` appears twice"));
  EXPECT_THAT(refusal("{\"t\":" + std::string(100'000, '['), 0),
              HasSubstr("nested more than 64 deep"));
  EXPECT_THAT(refusal("{", 0), HasSubstr("header: line 1, column "));
  EXPECT_THAT(refusal("{}x", 0), StartsWith("E_FORMAT"));
}

TEST(SafetensorsFile, HandsOutTheBytesOfEachTensor) {
  const Scratch scratch;
  const float values[] = {1, 2, 3, 4, 5, 6};
  const std::string data(reinterpret_cast<const char*>(values), sizeof values);
  std::string json = R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
  json.append(-(8 + json.size()) % 8, ' ');
  write_file(scratch / "m", file_of(json, data));
  const SafetensorsFile file(scratch / "m");
  const TensorView w = file.tensor("w");
  EXPECT_EQ(w.dims, 2);
  EXPECT_EQ(w.size(0), 2);
  EXPECT_EQ(w.size(1), 3);
  EXPECT_EQ(w.as<const float>()[4], 5);
  EXPECT_TRUE(file.has("w"));
  EXPECT_FALSE(file.has("v"));
}

TEST(SafetensorsFile, AlignsWhatTheFileDoesNot) {
  const Scratch scratch;
  for (size_t padding = 0; padding < 8; ++padding) {
    const double value = 2.5;
    std::string data = "x" + std::string(reinterpret_cast<const char*>(&value), 8);
    std::string json =
        R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"d":{"dtype":"F64","shape":[],"data_offsets":[1,9]}})";
    write_file(scratch / "m", file_of(json + std::string(padding, ' '), data));
    const SafetensorsFile file(scratch / "m");
    const TensorView d = file.tensor("d");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(d.data) % 8, 0U);
    EXPECT_EQ(*d.as<double>(), 2.5);
    EXPECT_EQ(*file.tensor("b").as<u8>(), 'x');
  }
}

TEST(SafetensorsFile, ViewsOutliveItWithItsOwner) {
  const Scratch scratch;
  write_file(scratch / "m", file_of("{" + floats("a", 1, 0) + "}", std::string(4, '\0')));
  std::shared_ptr<const void> owner;
  TensorView a;
  {
    const SafetensorsFile file(scratch / "m");
    owner = file.owner();
    a = file.tensor("a");
  }
  EXPECT_EQ(*a.as<float>(), 0.0F);
}

TEST(SafetensorsFile, NamesTheNearestTensor) {
  const Scratch scratch;
  write_file(scratch / "m",
             file_of("{" + floats("model.norm.weight", 1, 0) + "}", std::string(4, '\0')));
  const SafetensorsFile file(scratch / "m");
  EXPECT_EQ(error_of([&] { file.tensor("model.norn.weight"); }),
            "E_WEIGHT: " + (scratch / "m").string() +
                ": has no tensor `model.norn.weight`; did you mean `model.norm.weight`?");
}

TEST(SafetensorsFile, RefusesMoreDimensionsThanAViewHas) {
  const Scratch scratch;
  write_file(scratch / "m",
             file_of(R"({"t":{"dtype":"U8","shape":[1,1,1,1,1],"data_offsets":[0,1]}})", "x"));
  const SafetensorsFile file(scratch / "m");
  EXPECT_THAT(error_of([&] { file.tensor("t"); }),
              HasSubstr("has 5 dimensions; kvlab reads up to 4"));
}

TEST(SafetensorsFile, EveryTruncationOfAFileIsRefused) {
  const Scratch scratch;
  const std::string whole =
      file_of("{" + floats("a", 2, 0) + "," + floats("b", 1, 8) + "}", std::string(12, 'x'));
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    write_file(scratch / "m", whole.substr(0, bytes));
    EXPECT_THAT(error_of([&] { SafetensorsFile file(scratch / "m"); }), StartsWith("E_FORMAT: "))
        << bytes;
  }
  EXPECT_THAT(error_of([&] { SafetensorsFile file(scratch / "none"); }), StartsWith("E_FILE: "));
}

Tensor counting(const std::string& name, Dtype dtype, std::initializer_list<int64_t> sizes) {
  Tensor tensor = make_tensor(name, dtype, sizes);
  const int64_t bytes = tensor.view.numel() * size_of(dtype);
  for (int64_t i = 0; i < bytes; ++i) tensor.view.as<u8>()[i] = static_cast<u8>(i + name[0]);
  return tensor;
}

TEST(WriteSafetensors, ReadsBackEqual) {
  const Scratch scratch;
  const std::vector<Tensor> tensors{
      counting("a", Dtype::i8, {3}), counting("b", Dtype::f64, {2, 2}),
      counting("c", Dtype::bf16, {}), counting("d", Dtype::f32, {0, 7})};
  write_safetensors(scratch / "m", tensors, {{"k", "v\n"}});
  const SafetensorsFile file(scratch / "m");
  EXPECT_EQ(file.header().metadata, (std::map<std::string, std::string>{{"k", "v\n"}}));
  for (const Tensor& tensor : tensors) {
    const TensorView read = file.tensor(tensor.name);
    EXPECT_EQ(read.dtype, tensor.view.dtype);
    EXPECT_EQ(read.dims, tensor.view.dims);
    EXPECT_EQ(read.sizes, tensor.view.sizes);
    const auto bytes = static_cast<size_t>(read.numel() * size_of(read.dtype));
    EXPECT_EQ(std::memcmp(read.data, tensor.view.data, bytes), 0);
  }
}

TEST(WriteSafetensors, AlignsTheDataToSixtyFourAndTensorsToTheirElements) {
  const Scratch scratch;
  write_safetensors(scratch / "m",
                    std::vector{counting("a", Dtype::u8, {3}), counting("b", Dtype::f32, {1}),
                                counting("c", Dtype::i64, {1})},
                    {});
  const SafetensorsFile file(scratch / "m");
  EXPECT_EQ(file.header().data_offset % 64, 0);
  std::vector<std::string> order;
  for (const auto& entry : file.header().entries) {
    EXPECT_EQ(entry.bytes.first % size_of(entry.dtype), 0);
    order.push_back(entry.name);
  }
  EXPECT_THAT(order, testing::ElementsAre("c", "b", "a"));
}

TEST(WriteSafetensors, RefusesWhatTheFormatCannotHold) {
  const Scratch scratch;
  const auto refusal_of = [&](const std::vector<Tensor>& tensors) {
    return error_of([&] { write_safetensors(scratch / "m", tensors, {}); });
  };
  EXPECT_THAT(refusal_of({counting("a", Dtype::u8, {1}), counting("a", Dtype::u8, {1})}),
              HasSubstr("the name `a` is taken"));
  EXPECT_THAT(refusal_of({counting("__metadata__", Dtype::u8, {1})}), HasSubstr("is taken"));
  Tensor strided = counting("a", Dtype::u8, {4, 4});
  strided.view.sizes[1] = 2;
  EXPECT_THAT(refusal_of({strided}), HasSubstr("must be dense and on the CPU"));
  EXPECT_FALSE(std::filesystem::exists(scratch / "m"));
}

TEST(WriteSafetensors, NamesAFolderThatIsMissing) {
  const Scratch scratch;
  EXPECT_THAT(error_of([&] { write_safetensors(scratch / "no" / "m", {}, {}); }),
              StartsWith("E_FILE: "));
}

}  // namespace
}  // namespace kvlab
