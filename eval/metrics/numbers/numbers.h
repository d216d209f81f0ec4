#pragma once
// Numbers that a text names, where one is asked for.

#include <string_view>

namespace kvlab {

/// Of the runs of the digits 0-9 in the text, the share that equals the first in the reference,
/// digit by digit (07 is not 7); 0 where either has none.
double number_share(std::string_view text, std::string_view reference);

}  // namespace kvlab
