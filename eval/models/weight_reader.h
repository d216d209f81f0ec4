#pragma once
// Tensors of a network out of its weight files: by name, checked, in the run dtype.

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "eval/models/linear.h"
#include "eval/models/weight_files.h"

namespace kvlab {

/// Remembers which tensors were asked for.
class WeightReader {
 public:
  using Sizes = std::vector<int64_t>;

  /// `files` must outlive the reader; `where` names them in errors.
  WeightReader(const WeightFiles& files, std::string where, Dtype dtype)
      : files_(files), where_(std::move(where)), dtype_(dtype) {}

  Dtype dtype() const { return dtype_; }
  bool has(std::string_view name) const { return files_.has(name); }

  /// Where it lies if it has the dtype wanted (`read`: the run dtype), else converted.  E_WEIGHT:
  /// it is missing.  E_SHAPE: it has other sizes.  E_UNSUPPORTED: it is not float32, float16 or
  /// bfloat16.  E_NONFINITE: it holds an infinite value or NaN, in the file or as converted.
  Tensor read(const std::string& name, const Sizes& sizes) { return read(name, sizes, dtype_); }
  Tensor read(const std::string& name, const Sizes& sizes, Dtype dtype);

  enum class Bias : u8 { absent, present };
  /// NAME.weight [out, in] and, if present, NAME.bias [out].
  Linear linear(const std::string& name, int64_t out, int64_t in, Bias bias = Bias::absent);

  /// E_WEIGHT unless tensor `name` repeats tensor `of`, bit for bit; `why` says why it should.
  void must_repeat(std::string_view name, std::string_view of, std::string_view why) const;

  /// Every tensor of the files must have been read or be spare: one that no part of the network
  /// uses says that the config is not this network's.  E_WEIGHT.
  void finish(std::string_view family,
              const std::function<bool(std::string_view name)>& is_spare) const;

 private:
  Tensor converted(const Tensor& tensor, Dtype dtype) const;

  const WeightFiles& files_;
  std::string where_;
  Dtype dtype_;
  std::set<std::string, std::less<>> read_{};
};

}  // namespace kvlab
