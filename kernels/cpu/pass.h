#pragma once
// One pass over segments whose rows lie in memory and have kernels: plan, attend piece by piece,
// finish.

#include <memory>
#include <vector>

#include "kernels/cpu/attend.h"
#include "kernels/cpu/finish.h"

namespace kvlab {

class AttendPass {
 public:
  /// call: its segments are those of this pass.  E_UNSUPPORTED, E_SHAPE, E_STALE_PLAN.
  AttendPass(CpuResources& resources, const AttendCall& call, const Results& results);

  void run();
  const AttendContext& context() const { return context_; }
  const WorkItems& work() const { return work_; }
  WorkCounts counts() const;
  std::vector<WorkCounts>& counts_by_thread() { return counts_; }

 private:
  void plan();
  void place_states();
  void run_piece(const Piece& piece, int thread);
  void finish_rest(int threads);
  void finish_empty();

  const Recipe& recipe_of(const WorkItem& item) const {
    return work_.recipes[static_cast<size_t>(item.recipe)];
  }
  const SumGroup& group_of(const WorkItem& item) const {
    return recipe_of(item).groups[static_cast<size_t>(item.group)];
  }
  bool is_direct(const Piece& piece, const WorkItem& item) const {
    return piece.slot < 0 && recipe_of(item).groups.size() == 1;
  }
  int32_t item_of(const QueryTile& tile, int group, int kv_head) const {
    return work_.item_of(tile, group, kv_head, call_.shape->num_kv_heads);
  }

  CpuResources& resources_;
  const AttendCall& call_;
  Results results_;
  WorkItems work_{};
  AttendContext context_{};
  std::shared_ptr<RopeTable> rope_{};
  CpuPlan own_plan_{};
  const CpuPlan* plan_ = nullptr;
  std::vector<ItemState> states_{};                // of pieces that are finished later
  std::vector<std::vector<int32_t>> pieces_of_{};  // of each item
  std::vector<WorkCounts> counts_{};               // of each thread
};

}  // namespace kvlab
