"""Puts the sections of a folder into the page of benchmarks; the page keeps the sections it has no new ones for.

python page.py PAGE FOLDER
"""

import pathlib
import re
import sys

page, parts = map(pathlib.Path, sys.argv[1:])
head = "# Benchmarks\n\nMade by `scripts/bench`: each section says what was measured, how, and on which machine, with peers beside us in the\nsame run.\n"
old = page.read_text() if page.exists() else ""
sections = {m[1]: m[0] for m in re.finditer(r"<!-- (\w+) -->\n.*?(?=<!-- \w+ -->|\Z)", old, re.S)}
sections |= {part.stem: part.read_text() for part in parts.glob("*.md")}
page.write_text(head + "".join("\n" + sections[name].strip() + "\n" for name in sorted(sections)))
