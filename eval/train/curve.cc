#include "eval/train/curve.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <vector>

#include "eval/experiment/report_page.h"

namespace kvlab {
namespace {

constexpr double kWidth = 960, kHeight = 360, kTop = 48, kBottom = 316;
constexpr double kRemember = 0.95;  // of the running mean, per step
constexpr size_t kMostPoints = 1500;
constexpr std::array<const char*, 8> kColours{"#4477aa", "#ee6677", "#228833", "#ccbb44",
                                              "#66ccee", "#aa3377", "#997700", "#444444"};

using Points = std::vector<std::pair<double, double>>;  // tokens, value

std::string number(double value, int digits = 4) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

/// What the picture shows.
struct Curves {
  Points loss{}, mean{}, text{};
  std::map<std::string, Points> shares{};
  double tokens = 1;
};

Curves curves_of(std::span<const Json> log) {
  Curves curves;
  double weight = 0, sum = 0, tokens = 0;
  for (const Json& line : log) {
    if (line.contains("loss")) {
      tokens = line.at("tokens");
      const double loss = line.at("loss");
      sum = kRemember * sum + loss;
      weight = kRemember * weight + 1;
      curves.loss.emplace_back(tokens, loss);
      curves.mean.emplace_back(tokens, sum / weight);
    } else if (line.contains("validation")) {
      for (const auto& [name, value] : line.at("validation").items()) {
        if (name == "text_loss") {
          curves.text.emplace_back(tokens, value.get<double>());
        } else if (!name.ends_with("_tokens")) {
          curves.shares[name].emplace_back(tokens, value.get<double>());
        }
      }
    }
  }
  curves.tokens = std::max(1.0, tokens);
  return curves;
}

/// One pair of axes: x in tokens, y in [low, high].
struct Panel {
  double left, right, tokens, low, high;

  double x(double at) const { return left + (right - left) * at / tokens; }
  double y(double value) const {
    const double share = (std::clamp(value, low, high) - low) / (high - low);
    return kBottom - (kBottom - kTop) * share;
  }

  std::string frame(const std::string& title) const {
    std::string svg =
        "<text x='" + number(left) + "' y='36' class='t'>" + escape_html(title) + "</text>\n";
    for (int i = 0; i <= 4; ++i) {
      const double value = low + (high - low) * i / 4, at = tokens * i / 4;
      svg += "<path d='M" + number(left) + " " + number(y(value)) + "H" + number(right) +
             "' class='g'/><text x='" + number(left - 6) + "' y='" + number(y(value) + 4) +
             "' text-anchor='end'>" + number(value, 3) + "</text><text x='" + number(x(at)) +
             "' y='334' text-anchor='middle'>" + number(at / 1e6, 3) + "M</text>\n";
    }
    return svg + "<text x='" + number((left + right) / 2) +
           "' y='352' text-anchor='middle'>tokens</text>\n";
  }

  std::string line(const Points& points, const std::string& style) const {
    if (points.empty()) return "";
    const size_t step = points.size() / kMostPoints + 1;
    std::string path;
    for (size_t i = 0; i < points.size(); i += step)
      path += (path.empty() ? "M" : "L") + number(x(points[i].first), 5) + " " +
              number(y(points[i].second), 5);
    return "<path d='" + path + "' fill='none' " + style + "/>\n";
  }
};

std::string legend(double x, int place, const char* colour, const std::string& name) {
  const double y = kTop + 14 + 16 * place;
  return "<path d='M" + number(x) + " " + number(y - 4) + "h16' stroke='" + colour +
         "' stroke-width='2'/><text x='" + number(x + 22) + "' y='" + number(y) + "'>" +
         escape_html(name) + "</text>\n";
}

std::string stroke(const char* colour, const char* width) {
  return std::string("stroke='") + colour + "' stroke-width='" + width + "'";
}

std::string loss_panel(const Curves& curves) {
  double low = 1e30, high = 0;
  for (const Points* points : {&curves.mean, &curves.text})
    for (const auto& [at, value] : *points)
      low = std::min(low, value), high = std::max(high, value);
  const Panel panel{48, 460, curves.tokens, std::floor(std::min(low, high)),
                    std::max(std::floor(std::min(low, high)) + 1, std::ceil(high))};
  return panel.frame("loss, nats per token") + panel.line(curves.loss, stroke("#bbccdd", "0.7")) +
         panel.line(curves.mean, stroke(kColours[0], "1.8")) +
         panel.line(curves.text, stroke(kColours[1], "1.8")) +
         legend(340, 0, kColours[0], "training mix") +
         legend(340, 1, kColours[1], "text, held out");
}

std::string share_panel(const Curves& curves) {
  const Panel panel{530, 925, curves.tokens, 0, 1};
  std::string svg = panel.frame("answers right, held out");
  int place = 0;
  for (const auto& [name, points] : curves.shares) {
    const char* colour = kColours[static_cast<size_t>(place) % kColours.size()];
    svg += panel.line(points, stroke(colour, "1.8")) + legend(540, place++, colour, name);
  }
  return svg;
}

}  // namespace

std::string training_curve(std::span<const Json> log, const std::string& title) {
  const Curves curves = curves_of(log);
  std::string svg = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " + number(kWidth) + " " +
                    number(kHeight) + "'>\n<title>" + escape_html(title) +
                    "</title>\n<style>text{font:12px sans-serif;fill:#333}.t{font-weight:bold}"
                    ".g{stroke:#ddd}</style>\n<rect width='100%' height='100%' fill='white'/>\n"
                    "<text x='48' y='18' class='t'>" +
                    escape_html(title) + "</text>\n";
  svg += loss_panel(curves);
  if (!curves.shares.empty()) svg += share_panel(curves);
  return svg + "</svg>\n";
}

}  // namespace kvlab
