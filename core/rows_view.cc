#include "core/rows_view.h"

#include <algorithm>

namespace kvlab {
namespace {

template <class Named>
int index_of(const std::vector<Named>& all, std::string_view name) {
  const auto found = std::ranges::find(all, name, &Named::name);
  return found == all.end() ? -1 : static_cast<int>(found - all.begin());
}

}  // namespace

int PageLayout::stream(std::string_view name) const { return index_of(streams, name); }
int PageLayout::column(std::string_view name) const { return index_of(columns, name); }

}  // namespace kvlab
