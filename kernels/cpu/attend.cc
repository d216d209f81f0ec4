#include "kernels/cpu/attend.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/mass.h"
#include "kernels/cpu/materialise.h"
#include "kernels/cpu/pass.h"

namespace kvlab {

int64_t CpuResources::scratch_bytes() const {
  int64_t total = shared.bytes();
  for (const Scratch& one : scratch) total += one.bytes();
  return total;
}

std::vector<int> segments_with_kernels(std::span<const Segment> segments) {
  std::vector<int> direct;
  for (size_t i = 0; i < segments.size(); ++i)
    if (!is_materialised(segments[i])) direct.push_back(static_cast<int>(i));
  return direct;
}

namespace {

void check_call(const AttendCall& call) {
  const Layer& shape = *call.shape;
  KVLAB_REQUIRE(
      shape.num_heads > 0 && shape.num_kv_heads > 0 && shape.num_heads % shape.num_kv_heads == 0,
      "E_SHAPE", "cpu engine: ", shape.num_heads, " query heads over ", shape.num_kv_heads,
      " kv heads; the first must be a multiple of the second");
  check_rows(call.queries, "queries");
  const int64_t rows = call.rows.size();
  KVLAB_REQUIRE(call.queries.size(0) == rows && call.queries.size(1) == shape.num_heads &&
                    call.queries.size(2) == shape.head_dim,
                "E_SHAPE", "cpu engine: queries are [", call.queries.size(0), ", ",
                call.queries.size(1), ", ", call.queries.size(2), "]; they must be [", rows, ", ",
                shape.num_heads, ", ", shape.head_dim, "]");
  if (call.out) {
    check_rows(call.out, "outputs");
    KVLAB_REQUIRE(call.out.size(0) == rows && call.out.size(1) == shape.num_heads &&
                      call.out.size(2) == shape.value_dim,
                  "E_SHAPE", "cpu engine: out is [", call.out.size(0), ", ", call.out.size(1), ", ",
                  call.out.size(2), "]; it must be [", rows, ", ", shape.num_heads, ", ",
                  shape.value_dim, "]");
  }
  if (call.lse_ln)
    KVLAB_REQUIRE(call.lse_ln.dtype == Dtype::f32 && call.lse_ln.dims == 2 &&
                      call.lse_ln.size(0) == rows && call.lse_ln.size(1) == shape.num_heads,
                  "E_SHAPE", "cpu engine: lse_ln must be float32 [", rows, ", ", shape.num_heads,
                  "]");
  KVLAB_REQUIRE(call.sinks.empty() || static_cast<int>(call.sinks.size()) == shape.num_heads,
                "E_SHAPE", "cpu engine: ", call.sinks.size(), " sinks for ", shape.num_heads,
                " query heads");
  KVLAB_REQUIRE(
      shape.alibi_slopes.empty() || static_cast<int>(shape.alibi_slopes.size()) == shape.num_heads,
      "E_SHAPE", "cpu engine: ", shape.alibi_slopes.size(), " ALiBi slopes for ", shape.num_heads,
      " query heads");
  const TensorView& bias = call.distance_bias;
  KVLAB_REQUIRE(shape.distance_bias == 0
                    ? !bias
                    : bias && bias.dtype == Dtype::f32 && bias.dims == 2 &&
                          bias.size(0) == shape.num_heads && bias.size(1) == shape.distance_bias &&
                          (bias.stride(1) == 1 || bias.size(1) == 1),
                "E_SHAPE", "cpu engine: distance_bias must be float32 [", shape.num_heads, ", ",
                shape.distance_bias, "], and absent where there are no entries");
  for (const Segment& segment : call.segments) {
    KVLAB_REQUIRE(segment.query_positions.empty() ||
                      static_cast<int64_t>(segment.query_positions.size()) == rows,
                  "E_SHAPE", "cpu engine: ", segment.query_positions.size(),
                  " query positions of a segment for ", rows, " query rows");
    KVLAB_REQUIRE(segment.query_positions.empty() || !call.rotated, "E_UNSUPPORTED",
                  "cpu engine: a segment rotates queries at positions of its own, but the queries "
                  "are rotated already; hand them over unrotated");
  }
}

/// Part of a call that one pass reads: segments whose bytes kernels read, or some rows of a segment
/// that first become float32.
struct Round {
  std::vector<int> segments{};
  int64_t rows = -1;  // number of the round of MaterialisedRows; -1: read as they are
};

std::vector<Round> rounds_of(const AttendCall& call,
                             std::vector<std::unique_ptr<MaterialisedRows>>& materialised) {
  std::vector<Round> rounds;
  std::vector<int> direct = segments_with_kernels(call.segments);
  if (!direct.empty()) rounds.push_back({std::move(direct)});
  for (size_t i = 0; i < call.segments.size(); ++i) {
    materialised.push_back(nullptr);
    if (!is_materialised(call.segments[i])) continue;
    materialised.back() = std::make_unique<MaterialisedRows>(call, call.segments[i]);
    for (int64_t k = 0; k < materialised.back()->rounds(); ++k)
      rounds.push_back({{static_cast<int>(i)}, k});
  }
  if (rounds.empty()) rounds.push_back({});
  return rounds;
}

void add_part(std::string& all, const std::string& part, const char* between) {
  if (part.empty() || (between + all + between).find(between + part + between) != std::string::npos)
    return;
  all += (all.empty() ? "" : between) + part;
}

/// All passes of a call, one after another; the first of two sweeps attends, the second adds mass.
class Attention {
 public:
  Attention(CpuResources& resources, const AttendCall& call)
      : resources_(resources),
        call_(call),
        rounds_(rounds_of(call, materialised_)),
        mass_rows_(call.segments),
        cells_(call.rows.size() * call.shape->num_heads) {
    if (call.mass) check_mass(call, mass_rows_);
  }

  Ran run() {
    const Scratch::Mark mark(resources_.shared);
    Results results;
    if (call_.mass || rounds_.size() > 1) results.lse = resources_.shared.take<float>(cells_);
    if (rounds_.size() > 1) {
      results.out_stride = padded(call_.shape->value_dim);
      results.out = resources_.shared.take<float>(cells_ * results.out_stride);
    }
    if (call_.out)
      for (size_t i = 0; i < rounds_.size(); ++i) {
        results.is_first = i == 0;
        results.is_last = i + 1 == rounds_.size();
        sweep(rounds_[i], results, false);
      }
    if (call_.mass) {
      if (!call_.out) read_lse(results.lse);
      clear_mass();
      for (const Round& round : rounds_) sweep(round, results, true);
    }
    ran_.scratch_bytes = resources_.scratch_bytes();
    return ran_;
  }

 private:
  void sweep(const Round& round, const Results& results, bool mass) {
    const Scratch::Mark mark(resources_.shared);
    std::vector<Segment> segments;
    MaterialisedRows* made = nullptr;
    for (const int i : round.segments) {
      made = materialised_[static_cast<size_t>(i)].get();
      segments.push_back(made == nullptr ? call_.segments[static_cast<size_t>(i)]
                                         : made->make(round.rows, resources_));
    }
    AttendCall part = call_;
    part.segments = segments;
    if (made != nullptr) {
      part.plan = nullptr;
      part.level = Level::automatic;
    }
    AttendPass pass(resources_, part, results);
    if (mass)
      add_mass({&pass.context(), results.lse, &mass_rows_, round.segments}, resources_,
               pass.counts_by_thread());
    else
      pass.run();
    report(pass, made);
  }

  void report(const AttendPass& pass, const MaterialisedRows* made) {
    const WorkCounts counts = pass.counts();
    ran_.bytes_read += made == nullptr ? counts.bytes_read : made->bytes_read();
    ran_.flops += 2 * counts.multiply_adds;
    ran_.certified_error = std::max(ran_.certified_error, counts.certified_error);
    for (const Recipe& recipe : pass.work().recipes) {
      add_part(ran_.level, made == nullptr ? recipe.level : "materialised", "+");
      add_part(ran_.kernel, made == nullptr ? recipe.kernel : made->kernel() + "/" + recipe.kernel,
               ", ");
      add_part(ran_.reason, made == nullptr ? recipe.reason : made->reason(), "; ");
    }
  }

  void read_lse(float* to) const {
    const int64_t heads = call_.shape->num_heads;
    for (int64_t i = 0; i < cells_; ++i)
      to[i] = call_.lse_ln.as<const float>()[i / heads * call_.lse_ln.stride(0) +
                                             i % heads * call_.lse_ln.stride(1)];
  }
  void clear_mass() const {
    for (int64_t row = 0; row < call_.mass.size(0); ++row)
      std::fill_n(call_.mass.as<float>() + row * call_.mass.stride(0), call_.mass.size(1), 0.0f);
  }

  CpuResources& resources_;
  const AttendCall& call_;
  std::vector<std::unique_ptr<MaterialisedRows>> materialised_{};  // of each segment, or null
  std::vector<Round> rounds_;
  MassRows mass_rows_;
  int64_t cells_;
  Ran ran_{};
};

}  // namespace

Ran attend(CpuResources& resources, const AttendCall& call) {
  check_call(call);
  return Attention(resources, call).run();
}

}  // namespace kvlab
