"""Faster forms of all peers: fewer bits for speed. Each with the error of its heatmap."""
import shutil, subprocess, sys
from safetensors.numpy import load_file
import tables


def prepare(a, soundsight):
    """Makes the 8-bit model of ours, with the sound and the picture beside it."""
    folder = a.model / "q8"
    if not (folder / "clip.wav").exists():
        subprocess.run([str(soundsight), "convert", "--model", str(a.model), "--weights", "q8", "--out", str(folder)], check=True, stdout=sys.stderr)
        for name in ("clip.wav", "frame.png"): shutil.copy(a.model / name, folder / name)


NEEDS = {"ours-high": ("amx_bf16",), "ours-medium": ("amx_bf16", "avx512_bf16")}  # one of these instructions


def options(a, name):
    """The arguments of our program for a form: its folder, and what differs from the default."""
    form = name.partition("-")[2]
    return [str(a.model / form)] if form == "q8" else [str(a.model), *(["--precision", form] if form else [])]


def differences(one, other):
    one, other = (load_file(file)["heatmap"].flatten() for file in (one, other))
    return dict(difference=float(abs(one - other).max()), mean=float(abs(one - other).mean()))


def measure(a, sitting, out, side, budget_ms, limits, simd):
    """The time of each stage in every form, how far each heatmap is from ours in f32, and what the machine can do."""
    workers = sitting.start("ours", *(form for form in tables.FORMS if form in a.forms and form != "ours" and (form not in NEEDS or set(NEEDS[form]) & set(simd))))
    file = out / "formats.safetensors"
    errors = {}
    workers[0].ask(op="heatmap", file=str(file))
    for worker in workers[1:]:
        if worker.name.startswith("ours"):
            theirs = out / f"{worker.name}.safetensors"
            worker.ask(op="heatmap", file=str(theirs))
            errors[worker.name] = differences(file, theirs)
        else:
            errors[worker.name] = worker.ask(op="agree", file=str(file))
    ms, flop, most = {}, {}, None
    for r in range(a.runs + 1):  # the first round warms up
        most = limits(a, most)
        for stage in tables.FORM_STAGES:
            for worker in workers:
                answer = sitting.turn(worker, op="time", stage=stage, batch=1, seconds=10.0, side=side, budget_ms=budget_ms)
                flop.setdefault(stage, answer.get("flop"))
                if r: ms.setdefault(worker.name, {}).setdefault(stage, []).append(tables.median(answer["ms"]))
        print(f"formats: round {r} of {a.runs}", file=sys.stderr)
    return dict(ms=ms, flop=flop, errors=errors, limits=most, idle_share=sitting.stop())
