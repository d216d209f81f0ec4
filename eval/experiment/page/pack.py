"""Makes the template of report.html, as a C++ string: one HTML file with style, scripts and
Plotly.js inside.  Called by the build:  pack.py FOLDER PLOTLY_JS LICENCE OUT.cc

Plotly.js is 4.8 MB; compressed and in base64 it is 2 MB, and the browser unpacks it when the tables
are on the screen.  eval/experiment/report_page.cc fills in what remains: @TITLE@ and @DATA@.
"""

import base64
import gzip
import html
import sys
from pathlib import Path

PIECE = 60_000  # characters; compilers need not take longer string literals


def template(folder: Path, plotly: bytes, licence: str) -> str:
    def text(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    parts = {
        "@STYLE@": text("report.css"),
        "@SCRIPT@": text("report.js") + text("plots.js"),
        "@LICENCE@": html.escape(licence.strip()),
        "@PLOTLY@": base64.b64encode(gzip.compress(plotly, 9, mtime=0)).decode(),
    }
    if "</script" in parts["@SCRIPT@"]:
        raise SystemExit("pack.py: a script of the report contains </script")
    page = text("report.html")
    for mark, content in parts.items():
        if page.count(mark) != 1:
            raise SystemExit(f"pack.py: report.html has {mark} {page.count(mark)} times, not once")
        page = page.replace(mark, content)
    return page


def literal(page: str) -> str:
    pieces = [page[i : i + PIECE] for i in range(0, len(page), PIECE)]
    return "\n".join(f'R"kvlab({piece})kvlab"' for piece in pieces)


def main() -> None:
    folder, plotly, licence, out = map(Path, sys.argv[1:])
    page = template(folder, plotly.read_bytes(), licence.read_text(encoding="utf-8"))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        '#include "eval/experiment/page_template.h"\n\n'
        f"const std::string_view kvlab::kPageTemplate =\n{literal(page)};\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
