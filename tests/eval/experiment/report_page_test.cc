// What may stand in a page: names of configs and files are hostile until they are escaped.

#include "eval/experiment/report_page.h"

#include <gmock/gmock.h>

#include "eval/experiment/page_template.h"

namespace kvlab {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kHostile = "</script><img src=x onerror=alert(1)><!--";

std::string data_of(const std::string& page) {
  const std::string open = R"(<script type="application/json" id="data">)";
  const size_t begin = page.find(open) + open.size();
  return page.substr(begin, page.find("</script>", begin) - begin);
}

TEST(ReportPage, JsonInAScriptNeitherEndsItNorBeginsAComment) {
  const Json value{{kHostile, {kHostile, "<!-- <script>", "a < b && b > c", "\u2028"}}};
  const std::string text = json_for_script(value);
  EXPECT_THAT(text, Not(HasSubstr("<")));
  EXPECT_EQ(Json::parse(text), value);
}

TEST(ReportPage, BytesThatAreNoTextAreReplaced) {
  EXPECT_EQ(Json::parse(json_for_script(Json("a\xff"
                                             "b"))),
            Json("a\uFFFD"
                 "b"));
}

TEST(ReportPage, HtmlHasNoTagsAndNoQuotesOfItsText) {
  EXPECT_EQ(escape_html("<a href='x'>\"&\"</a>"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;");
}

TEST(ReportPage, TheDataComeBackAsTheyWere) {
  const Json data{{"title", kHostile}, {"questions", {1, 2}}, {"note", "@TITLE@ @DATA@"}};
  const std::string page = report_page(data);
  EXPECT_EQ(Json::parse(data_of(page)), data);
  EXPECT_THAT(page, HasSubstr("<title>&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("<img")));
}

TEST(ReportPage, NothingIsFetched) {
  const std::string page = report_page({{"title", "t"}});
  const std::string own = page.substr(0, page.find(R"(id="plotly")"));
  for (const char* outside : {"http://", "https://", "src=", "@import", "url("}) {
    const std::string text = own.substr(0, own.find("<footer")) + own.substr(own.find("</footer>"));
    if (std::string_view(outside) == "http://") {  // the name of SVG's namespace is an address
      EXPECT_EQ(text.find(outside), text.find("http://www.w3.org/2000/svg"));
    } else {
      EXPECT_THAT(text, Not(HasSubstr(outside)));
    }
  }
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
}

TEST(ReportPage, ThePlottingLibraryComesWithItsLicence) {
  EXPECT_THAT(std::string(kPageTemplate),
              testing::AllOf(HasSubstr("MIT License"), HasSubstr("Plotly Technologies Inc.")));
}

}  // namespace
}  // namespace kvlab
