#pragma once
// How anything in kvlab fails: an Error with a code, and one sentence that names the cause and the
// fix.

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace kvlab {

/// code: one of the list in core/README.md ("E_SHAPE", ...).  what(): "E_SHAPE: cache: ...".
class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message)
      : std::runtime_error(code + ": " + message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }
  /// The sentence without its code.
  std::string_view message() const { return std::string_view(what()).substr(code_.size() + 2); }

 private:
  std::string code_;
};

/// Text from outside as it may stand in a message: always UTF-8, control characters and ill-formed
/// bytes as \xNN, "..." after `most` characters.
std::string printable(std::string_view text, size_t most = 80);

template <class... Parts>
[[noreturn]] void fail(std::string_view code, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(std::string(code), text.str());
}

}  // namespace kvlab

/// The user's mistake.
#define KVLAB_REQUIRE(condition, code, ...)             \
  do {                                                  \
    if (!(condition)) ::kvlab::fail(code, __VA_ARGS__); \
  } while (false)

/// Our mistake: no input should be able to trigger it.
#define KVLAB_CHECK(condition)                                                                  \
  do {                                                                                          \
    if (!(condition))                                                                           \
      ::kvlab::fail("E_INTERNAL", __FILE__, ":", __LINE__, ": ", #condition, " does not hold"); \
  } while (false)

#ifdef NDEBUG
#define KVLAB_DCHECK(condition) ((void)0)
#else
#define KVLAB_DCHECK(condition) KVLAB_CHECK(condition)
#endif
