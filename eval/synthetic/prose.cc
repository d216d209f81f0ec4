#include "eval/synthetic/prose.h"

#include <array>
#include <string_view>

namespace kvlab {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::array kSubjects = {
    "actor"sv,     "admiral"sv,   "apprentice"sv, "artist"sv,    "baker"sv,     "barber"sv,
    "boy"sv,       "brewer"sv,    "captain"sv,    "carpenter"sv, "clerk"sv,     "cook"sv,
    "dancer"sv,    "doctor"sv,    "driver"sv,     "engineer"sv,  "farmer"sv,    "fisherman"sv,
    "gardener"sv,  "girl"sv,      "glazier"sv,    "grocer"sv,    "guard"sv,     "guest"sv,
    "hunter"sv,    "innkeeper"sv, "jeweller"sv,   "judge"sv,     "lawyer"sv,    "librarian"sv,
    "mason"sv,     "mayor"sv,     "mechanic"sv,   "merchant"sv,  "messenger"sv, "miller"sv,
    "miner"sv,     "musician"sv,  "neighbour"sv,  "nurse"sv,     "painter"sv,   "pilot"sv,
    "plumber"sv,   "poet"sv,      "porter"sv,     "potter"sv,    "printer"sv,   "professor"sv,
    "queen"sv,     "sailor"sv,    "scholar"sv,    "sculptor"sv,  "shepherd"sv,  "singer"sv,
    "smith"sv,     "soldier"sv,   "student"sv,    "tailor"sv,    "teacher"sv,   "thief"sv,
    "traveller"sv, "waiter"sv,    "weaver"sv,     "widow"sv};

constexpr std::array kVerbs = {
    "admired"sv,  "borrowed"sv, "bought"sv,  "broke"sv,   "brought"sv,   "buried"sv,   "carried"sv,
    "cleaned"sv,  "copied"sv,   "counted"sv, "covered"sv, "described"sv, "drew"sv,     "dropped"sv,
    "examined"sv, "forgot"sv,   "found"sv,   "hid"sv,     "kept"sv,      "lifted"sv,   "lost"sv,
    "measured"sv, "mended"sv,   "moved"sv,   "opened"sv,  "packed"sv,    "polished"sv, "returned"sv,
    "sold"sv,     "touched"sv,  "washed"sv,  "wrapped"sv};

constexpr std::array kObjects = {
    "anchor"sv, "apple"sv,   "armchair"sv, "barrel"sv,   "basket"sv,   "bell"sv,   "blanket"sv,
    "book"sv,   "bottle"sv,  "bowl"sv,     "bracelet"sv, "bridge"sv,   "broom"sv,  "brush"sv,
    "bucket"sv, "cabinet"sv, "candle"sv,   "carpet"sv,   "chest"sv,    "clock"sv,  "coat"sv,
    "coin"sv,   "compass"sv, "cup"sv,      "curtain"sv,  "door"sv,     "drum"sv,   "fence"sv,
    "flag"sv,   "flute"sv,   "glove"sv,    "hammer"sv,   "hat"sv,      "horn"sv,   "kettle"sv,
    "key"sv,    "knife"sv,   "ladder"sv,   "lamp"sv,     "lantern"sv,  "letter"sv, "map"sv,
    "mirror"sv, "needle"sv,  "net"sv,      "oar"sv,      "painting"sv, "pen"sv,    "pillow"sv,
    "plate"sv,  "purse"sv,   "ring"sv,     "rope"sv,     "saddle"sv,   "scarf"sv,  "shovel"sv,
    "spoon"sv,  "statue"sv,  "stove"sv,    "table"sv,    "tent"sv,     "violin"sv, "wagon"sv,
    "window"sv};

static_assert(kSubjects.size() == 64 && kVerbs.size() == 32 && kObjects.size() == 64);

}  // namespace

std::string prose_sentence(SplitMix64& random) {
  std::string text = "The ";
  text += kSubjects[random.below(kSubjects.size())];
  text += ' ';
  text += kVerbs[random.below(kVerbs.size())];
  text += " the ";
  text += kObjects[random.below(kObjects.size())];
  return text + '.';
}

}  // namespace kvlab
