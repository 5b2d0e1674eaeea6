"""Markdown tables of the measurements of `compare`."""
import statistics

NAMES = {
    "fbank": "filterbank", "beats": "BEATs", "tokenizer": "AudioTokenizer", "text": "text tower",
    "vision": "vision tower, the blocks that a mask needs ¹", "vision_all": "vision tower, all blocks", "decoder": "decoder",
    "localize": "**localize, end to end**", "localize_pair": "`Localizer::localize_pair` ²",
}

FORMS = {
    "ours": "soundsight, f32", "ours-high": "soundsight, precision high: 16 bits, by AMX", "ours-medium": "soundsight, precision medium: bf16, by AMX or AVX-512 BF16",
    "ours-q8": "soundsight, q8: 8-bit weights, products in integers where the processor gains by it",
    "pytorch": "PyTorch, f32", "pytorch-bf16": "PyTorch, bf16 autocast",
    "onnxruntime": "ONNX Runtime, f32", "onnxruntime-int8": "ONNX Runtime, towers dynamically quantized to 8 bits",
}
FORM_STAGES = {"beats": "BEATs", "vision": "vision tower", "localize": "localize, end to end"}


def median(values): return statistics.median(values)


def number(x):
    """Formats a number with three significant digits."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def cell(values): return f"{number(median(values))} ({number(min(values))})" if values else "–"


def ratio(ours, theirs): return f"{median(ours) / median(theirs):.2f}" if ours and theirs else "–"


def machine(h):
    processor = ", ".join(filter(None, (h["processor"], h.get("model"))))
    return f"{processor}, {h['cores']} cores ({h['simd']}); {h['threads']} threads each; {h['rustc'].split(' (')[0]}"


def share(rate, limits):
    """A rate in GFLOP/s as a share of what the machine can do in f32."""
    return f"{rate / limits['f32']['gflops']:.0%}" if limits else "–"


def roof(limits):
    """What the machine can do at most, in a sentence."""
    if not limits: return ""
    names = {"f32": "f32", "bf16": "bf16", "int8": "8 bits"}
    say = lambda kind, limit: f"{number(limit['gflops'])} in {names[kind]} ({limit['instruction']})" if limit else f"no instructions for {names[kind]}"
    return " The most that the machine can do, measured in the same rounds, in GFLOP/s: " + ", ".join(say(*item) for item in limits.items()) + "."


def forms(result):
    """A row for each form, for the result of a comparison that has measured them."""
    head, result = result["header"], result["formats"]
    lines = [machine(head) + ".", "", "| ms: median (least) | " + " | ".join(FORM_STAGES.values()) + " | ÷ ours in f32 | GFLOP/s | of the f32 peak | max. heatmap error | mean |", "|---|" + "--:|" * (len(FORM_STAGES) + 5)]
    base, limits = result["ms"]["ours"]["localize"], result["limits"]
    for name, stages in result["ms"].items():
        error = result["errors"].get(name)
        found = f"{error['difference']:.1e} | {error['mean']:.1e}" if error else " | "
        rate = result["flop"]["localize"] / median(stages["localize"]) / 1e6
        lines.append(f"| {FORMS[name]} | " + " | ".join(cell(stages[s]) for s in FORM_STAGES) + f" | {ratio(stages['localize'], base)} | {number(rate)} | {share(rate, limits)} | {found} |")
    return "\n".join(lines + ["", f"GFLOP/s are those of a localization, of the operations that the plain algorithm has.{roof(limits)} Errors are distances from our heatmap in f32. {result['when']}."]) + "\n"


def compare(result):
    h, lines = result["header"], []
    lines += [machine(h) + ".", ""]
    part = result.get("stages")
    if part:
        version = {name: hello["version"].split("+")[0] for name, hello in part["versions"].items()}
        pytorch, ort = f"PyTorch {version['pytorch']}", f"ONNX Runtime {version.get('onnxruntime', '')}".strip()
        lines += [f"| ms: median (least) | soundsight {version['ours']} | {pytorch} | {ort} | ÷ PyTorch | ÷ ONNX Runtime | GFLOP/s | of the f32 peak |", "|---|--:|--:|--:|--:|--:|--:|--:|"]
        for stage, rows in part["stages"].items():
            ms = lambda name: rows.get(name, {}).get("ms", [])
            theirs = ms("pytorch") or (part["stages"]["vision_all"]["pytorch"]["ms"] if stage == "vision" else [])
            flop = rows["ours"]["flop"]
            rate = flop / median(ms("ours")) / 1e6 if flop else None
            rates = f"{number(rate)} | {share(rate, part.get('limits'))}" if rate else "– | –"
            lines.append(f"| {NAMES[stage]} | {cell(ms('ours'))} | {cell(theirs)} | {cell(ms('onnxruntime'))} | {ratio(ms('ours'), theirs)} | {ratio(ms('ours'), ms('onnxruntime'))} | {rates} |")
        flop = part["stages"]["localize"]["ours"]["flop"]
        differences = ", ".join(f"{d:.0e} to {({'pytorch': 'PyTorch', 'onnxruntime': 'ONNX Runtime'})[n]}" for n, d in part["heatmap_difference"].items())
        rounds = len(part["stages"]["localize"]["ours"]["ms"])
        lines += ["", f"{rounds} rounds, {part['when']}. A localization needs {flop / 1e9:.0f} GFLOP; GFLOP/s are ours, of the operations that the plain algorithm has (Strassen's scheme saves some of them, so that a share may exceed 100%).{roof(part.get('limits'))} Largest difference of the heatmaps: {differences}. The waiting processes used "
                  f"{part['idle_share']:.1%} of a core. ONNX Runtime computes the two towers, PyTorch the rest of its localization. CANDLE_NUM_THREADS={h['candle_threads'] or 'unset'}.", "",
                  "¹ PyTorch computes all twelve, as the published code does; ONNX Runtime's graph is pruned as ours is. What the decoder reads is reduced to its width here, in the others in the decoder.  ",
                  "² From decoded files to the heatmap *with its confidence*, which needs the rest of the vision tower; the peers give no confidence."]
    if "cold" in result:
        c = result["cold"]
        lines += ["", "| one localization, from nothing | soundsight | PyTorch | ÷ PyTorch |", "|---|--:|--:|--:|"]
        for key, name in (("seconds", "process start to heatmap on disk, weights in the page cache, s"), ("mib", "peak memory, MiB")):
            lines.append(f"| {name} | {cell(c['ours'][key])} | {cell(c['pytorch'][key])} | {ratio(c['ours'][key], c['pytorch'][key])} |")
        lines += ["", "Ours is `localize`, which also computes the confidence and writes overlay, heatmap and mask; PyTorch loads the same files without drawing random weights first and writes the heatmap alone. Memory-mapped weights count where they are touched. "
                  f"{len(c['ours']['seconds'])} rounds, {c['when']}."]
    if "many" in result:
        ms, pairs = result["many"]["ms"], result["many"]["pairs"]
        lines += ["", "| the library's calls, one picture each | ms |", "|---|--:|",
                  f"| `localize_pair` | {cell(ms['localize_pair'])} |",
                  f"| {pairs} pairs in one call, each | {cell(ms['localize_pairs'])} |",
                  f"| another frame under a sound that has been heard | {cell(ms['another_frame'])} |",
                  f"| … of it the whole vision tower and the decoder | {number(median(ms['vision_all']) + median(ms['decoder']))} |",
                  "", f"With the confidence. {result['many']['when']}."]
    if "train" in result:
        lines += ["", "| training step | soundsight, ms | with cached features, ms | PyTorch, ms | ÷ PyTorch | cached ÷ PyTorch | memory, MiB | PyTorch's | ÷ PyTorch |", "|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
        for batch, rows in result["train"].items():
            if not batch.isdigit(): continue
            ours, cached, peer = (rows[name]["ms"] for name in ("ours", "ours_cached", "pytorch"))
            mib = rows["ours"]["mib"], rows["pytorch"]["mib"]
            lines.append(f"| batch {batch} | {cell(ours)} | {cell(cached)} | {cell(peer)} | {ratio(ours, peer)} | {ratio(cached, peer)} | {number(mib[0])} | {number(mib[1])} | {mib[0] / mib[1]:.2f} |")
        lines += ["", f"Filterbank, BEATs (unless cached), losses, gradients, Adam. PyTorch computes the step as the published code does, the image encoder once for every sound; it keeps no features. {result['train']['when']}."]
    return "\n".join(lines) + "\n"
