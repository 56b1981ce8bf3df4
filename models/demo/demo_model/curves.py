"""The trainings' curves, one panel a phase, as an SVG for the model card."""

from .paths import HERE, work_folder

WIDTH, HEIGHT, GAP = 220, 120, 56  # of a panel, pixels
ACROSS = 3


def draw() -> None:
    """Writes `curves.svg` from the points that the trainings on this machine kept."""
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for line in (work_folder() / "curves.tsv").read_text().splitlines():
        phase, seconds, what, value = line.split("\t")
        curves.setdefault((phase, what), []).append((float(seconds) / 60, float(value)))
    panels = [_panel(at, *name, points) for at, (name, points) in enumerate(curves.items())]
    width = min(ACROSS, len(panels)) * (WIDTH + GAP) + GAP
    height = -(-len(panels) // ACROSS) * (HEIGHT + GAP) + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
    (HERE / "curves.svg").write_text("\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *panels, "</svg>", ""]))


def _panel(at: int, phase: str, what: str, points: list[tuple[float, float]]) -> str:
    left, top = GAP + at % ACROSS * (WIDTH + GAP), GAP // 2 + at // ACROSS * (HEIGHT + GAP)
    end = max(minutes for minutes, _ in points)
    # The first steps would flatten the rest.
    shown = [point for point in points if point[0] > 0.03 * end] or points
    low, high = min(value for _, value in shown), max(value for _, value in shown)
    spread = (high - low) or 1.0
    line = " ".join(f"{left + WIDTH * m / end:.1f},{top + HEIGHT * (high - v) / spread:.1f}" for m, v in shown)
    return (
        f'<text x="{left}" y="{top - 8}">{phase}: {what}</text>'
        f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>'
        f'<text x="{left - 4}" y="{top + 8}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{left - 4}" y="{top + HEIGHT}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{left + WIDTH}" y="{top + HEIGHT + 14}" text-anchor="end">{end:.0f} CPU minutes</text>'
        f'<polyline points="{line}" fill="none" stroke="#5b3fd0" stroke-width="1.5"/>'
    )
