"""A table of processor seconds a unit, from lines of unit_cost on standard input; fails where one is over three times usual."""

import json
import sys

MOST = 3.0
rows = [json.loads(line) for line in sys.stdin]
usual = rows[0]["a_unit"]
ratio = lambda row: row["a_unit"] / usual
worst = max(rows, key=ratio)
print("### What a cost unit takes\n")
print("Processor time of whole requests on the demo model, one thread: pictures to start from decoded and scaled, steps,")
print("VAE, files encoded. PNG where nothing else is said. The usual shape is the model's own.\n")
print("| shape | CPU ms | units | CPU ms a unit | of the usual |")
print("|---|--:|--:|--:|--:|")
for row in rows:
    print(f"| {row['shape']} | {row['seconds'] * 1000:.0f} | {row['units']:.3f} | {row['a_unit'] * 1000:.0f} | {ratio(row):.2f} |")
print(f"\nThe dearest is {worst['shape']}, {ratio(worst):.2f} times the usual one.")
if ratio(worst) > MOST:
    sys.exit(f"a unit of {worst['shape']} takes {ratio(worst):.2f} times the usual one's processor time")
