#pragma once
// report.html without its title and data; the build writes it (eval/experiment/page/pack.py).

#include <string_view>

namespace kvlab {

extern const std::string_view kPageTemplate;

}  // namespace kvlab
