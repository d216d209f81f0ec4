#include "eval/catalogue.h"

namespace kvlab {

const Catalogue& catalogue() {
  static const Catalogue everything = [] {
    Catalogue made;
    register_evaluation(made);
    return made;
  }();
  return everything;
}

}  // namespace kvlab
