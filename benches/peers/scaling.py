"""`compare --scaling`: the cost of a localization by sound length, picture size, batch size and number of threads."""
import sys
from tables import machine, median, number

SECONDS = [1, 2, 4, 6, 8, 10]
SIDES = [176, 256, 352, 448, 528, 608, 704]
BATCHES = [1, 2, 4, 8, 16]
PEER_BATCHES = [1, 2, 4]  # more are too slow to be worth it
BUDGET_MS = 100
# kind: the varied quantity, its stage, the heading of its table
KINDS = {
    "seconds": ("Audio length, s", "BEATs, one sound", {"ours": "beats", "pytorch": "beats"}),
    "side": ("Picture side, px", "vision tower, one picture", {"ours": "vision", "pytorch": "vision_all"}),
    "batch": ("Batch", "localize, per pair", {"ours": "localize", "pytorch": "localize"}),
}


def measure(a, sitting_of, side):
    sitting = sitting_of(a)
    workers = sitting.start("ours", "pytorch")
    single = sitting.start("ours", "pytorch", threads=1) if a.threads > 1 else []
    points = {"seconds": SECONDS, "side": SIDES, "batch": BATCHES}
    if a.size == "mini": points = {"seconds": [1, 10], "side": [96, 192], "batch": [1, 2]}
    result = dict(versions={w.name: w.hello for w in workers}, threads={}, **{kind: {} for kind in points})

    def time(worker, stage, into, **size):
        request = dict(dict(batch=1, seconds=10.0, side=side), **size)
        answer = sitting.turn(worker, op="time", stage=stage, budget_ms=BUDGET_MS, **request)
        row = into.setdefault(worker.name, dict(ms=[], flop=answer.get("flop")))
        row["ms"].append(median(answer["ms"]))

    for worker in workers + single: sitting.turn(worker, op="time", stage="localize", budget_ms=0, batch=1, seconds=10.0, side=side)
    for r in range(a.scaling_runs):
        for kind, (_, _, stages) in KINDS.items():
            for x in points[kind]:
                for worker in workers:
                    if kind == "batch" and worker.name == "pytorch" and x not in PEER_BATCHES: continue
                    time(worker, stages[worker.name], result[kind].setdefault(str(x), {}), **{kind: x})
        for threads, group in ((a.threads, workers), (1, single)):
            for stage in ("beats", "vision_all", "localize"):
                for worker in group: time(worker, stage, result["threads"].setdefault(stage, {}).setdefault(str(threads), {}))
        print(f"scaling: round {r + 1} of {a.scaling_runs}", file=sys.stderr)
    return dict(result, idle_share=sitting.stop())


def per_item(kind, x, row):
    return median(row["ms"]) / (float(x) if kind == "batch" else 1)


def table(result):
    h = result["header"]
    lines = [f"{machine(h)}; {h['date']}, commit {h['commit']}.", "", "![Cost over audio length, picture size and batch](scaling.svg)"]
    for kind, (heading, what, _) in KINDS.items():
        lines += ["", f"| {heading} | {what}, ms | GFLOP/s | PyTorch, ms | ÷ PyTorch |", "|--:|--:|--:|--:|--:|"]
        for x, rows in result[kind].items():
            ours, peer = rows["ours"], rows.get("pytorch")
            rate = number(ours["flop"] / median(ours["ms"]) / 1e6)
            theirs = (number(per_item(kind, x, peer)), f"{median(ours['ms']) / median(peer['ms']):.2f}") if peer else ("–", "–")
            lines.append(f"| {x} | {number(per_item(kind, x, ours))} | {rate} | {theirs[0]} | {theirs[1]} |")
    if len(next(iter(result["threads"].values()))) > 1:
        counts = sorted(next(iter(result["threads"].values())), key=int)
        heads = [f"{who}, {n} thread{'s' if n != '1' else ''}" for who in ("ours", "PyTorch") for n in counts]
        lines += ["", "| ms | " + " | ".join(heads) + " | ours, gain | PyTorch, gain |", "|---|" + "--:|" * (len(heads) + 2)]
        for stage, by_threads in result["threads"].items():
            ms = {who: [median(by_threads[n][who]["ms"]) for n in counts] for who in ("ours", "pytorch")}
            cells = [number(x) for who in ("ours", "pytorch") for x in ms[who]]
            gains = [f"{ms[who][0] / ms[who][-1]:.2f} ×" for who in ("ours", "pytorch")]
            lines.append(f"| {stage.replace('_', ' ')} | " + " | ".join(cells + gains) + " |")
    lines += ["", "Medians; the vision tower is ours as far as a mask needs it and PyTorch's whole, except in the last table."]
    return "\n".join(lines) + "\n"


def plot(result):
    """Three panels with ours and PyTorch over the varied quantity."""
    width, height, left, top, gap = 260, 180, 55, 46, 60
    colors = {"ours": "#d9480f", "pytorch": "#495057"}
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {3 * (width + gap) + 10} 290" font-family="Helvetica, Arial, sans-serif" font-size="12">',
           f'<rect width="{3 * (width + gap) + 10}" height="290" rx="12" fill="#fbfaf7"/>']
    for panel, (kind, (heading, what, _)) in enumerate(KINDS.items()):
        x0, y0 = left + panel * (width + gap), top + height
        lines = {who: [(float(x), per_item(kind, x, rows[who])) for x, rows in result[kind].items() if who in rows] for who in colors}
        xs, ys = zip(*sum(lines.values(), []))
        step = nice(max(ys))
        most_x, most_y = max(xs), step * -(-max(ys) // step)
        at = lambda x, y: (x0 + width * x / most_x, y0 - height * y / most_y)
        out.append(f'<text x="{x0}" y="{top - 16}" font-weight="bold">{what}, ms</text>')
        y = 0
        while y <= most_y * 1.001:
            py = at(0, y)[1]
            out.append(f'<path d="M{x0} {py:.1f}h{width}" stroke="#dee2e6"/><text x="{x0 - 6}" y="{py + 4:.1f}" text-anchor="end">{y:g}</text>')
            y += step
        for x in sorted(set(xs)): out.append(f'<text x="{at(x, 0)[0]:.1f}" y="{y0 + 18}" text-anchor="middle">{x:g}</text>')
        out.append(f'<text x="{x0 + width / 2}" y="{y0 + 38}" text-anchor="middle">{heading}</text>')
        for who, points in lines.items():
            if not points: continue
            places = [at(*point) for point in points]
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            out.append(f'<path d="{path}" fill="none" stroke="{colors[who]}" stroke-width="2"/>')
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colors[who]}"/>' for x, y in places]
    for i, (who, name) in enumerate((("ours", "soundsight"), ("pytorch", "PyTorch"))):
        out.append(f'<circle cx="{left + i * 110}" cy="{top + height + 54}" r="4" fill="{colors[who]}"/><text x="{left + 10 + i * 110}" y="{top + height + 58}">{name}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def nice(most):
    """A round step that divides an axis into about five."""
    size = 10 ** (len(str(int(most / 5))) - 1) if most >= 5 else 0.1
    return next(size * f for f in (1, 2, 5, 10) if size * f * 5 >= most)
