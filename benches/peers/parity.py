#!/usr/bin/env python3
"""Parity at full size: every tensor of `localize --save-tensors` against PyTorch's (set-up: see peers.py).

    peers.py export OUT --size full    (or with AST: fixtures_ast.py full OUT)
    cargo build --release --features cli
    parity.py OUT [--soundsight target/release/soundsight]
    peers.py export MASSIVE --size full --massive
    parity.py OUT --modes --massive MASSIVE

Runs the model in OUT from its safetensors files and, in a separate folder, from pickles as published. Prints the
largest absolute difference of every tensor, and fails if one exceeds its bound or the two formats give different
results. With --modes it prints a table instead: the differences in every precision and format of weights, where products
of bf16 are computed without special instructions if the processor has none.
"""
import argparse, os, subprocess, sys, tempfile
from safetensors.torch import load_file

BOUNDS = {"heatmap": 1e-5, "heatmap224": 1e-5}  # everything else: 1e-4


TENSORS = {"beats_features": "BEATs", "audio_token": "audio token", "audio_embedding": "audio embedding", "dense_features": "patches",
           "image_embedding": "picture", "logits": "logits", "heatmap": "heatmap"}
TILES = {"SOUNDSIGHT_SIMD": "portable-tiles"}
MODES = {  # by name: options, environment
    "f32 without AMX": ([], {"SOUNDSIGHT_SIMD": "avx512"}),
    "f32 with AMX (`highest`)": ([], TILES),
    "`--precision high`": (["--precision", "high"], TILES),
    "`--precision medium`, f32 in memory": (["--precision", "medium"], TILES),
    "`--dtype bf16` with AMX": (["--dtype", "bf16"], TILES),
    "`--weights f16`": (["--weights", "f16"], {"SOUNDSIGHT_SIMD": "avx512"}),
    "`--weights bf16`": (["--weights", "bf16"], {"SOUNDSIGHT_SIMD": "avx512"}),
    "`--weights q8` in integers": (["--weights", "q8"], {"SOUNDSIGHT_SIMD": "avx512"}),
    "`--weights q8` with AMX": (["--weights", "q8"], TILES),
    "`--weights q8 --precision medium` with AMX": (["--weights", "q8", "--precision", "medium"], TILES),
}


def modes(a):
    """A table of the largest differences from PyTorch in every mode; for the heatmap also the average."""
    models = {"plain": a.out, **({"massive activations": a.massive} if a.massive else {})}
    expected = {model: load_file(os.path.join(folder, "expected.safetensors")) for model, folder in models.items()}
    print("| | " + " | ".join(TENSORS.values()) + " | heatmap, mean |\n|---|" + "--:|" * (len(TENSORS) + 1))
    for model, wanted in expected.items():
        print(f"| *{model}: largest value* | " + " | ".join(f"*{float(wanted[name].abs().max()):.3g}*" for name in TENSORS) + " | |")
        for mode, (options, env) in MODES.items():
            with tempfile.TemporaryDirectory() as folder:
                found = run(a.soundsight, models[model], models[model], folder, options, env)
            off = {name: (found[name] - wanted[name]).abs() for name in TENSORS}
            print(f"| {mode} | " + " | ".join(f"{float(off[name].max()):.1e}" for name in TENSORS) + f" | {float(off['heatmap'].mean()):.1e} |", flush=True)


def run(soundsight, model, inputs, folder, options=(), env={}):
    file = os.path.join(folder, "tensors.safetensors")
    sound, picture = (os.path.join(inputs, name) for name in ("clip.wav", "frame.png"))
    subprocess.run([soundsight, "localize", "--model", model, "--out", folder, "--save-tensors", file, *options, sound, picture],
                   check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, **env))
    return load_file(file)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--soundsight", default="target/release/soundsight")
    p.add_argument("--modes", action="store_true", help="prints the table of all modes")
    p.add_argument("--massive", metavar="MASSIVE", help="for --modes, also a model with massive activations")
    a = p.parse_args()
    if a.modes: return modes(a)
    expected, failed = load_file(os.path.join(a.out, "expected.safetensors")), False
    with tempfile.TemporaryDirectory() as folder:
        found = run(a.soundsight, a.out, a.out, folder)
        for name, wanted in sorted(expected.items()):
            off, bound = float((found[name] - wanted).abs().max()), BOUNDS.get(name, 1e-4)
            failed |= not off <= bound
            print(f"{name:20} {str(tuple(wanted.shape)):22} off by {off:.1e}, allowed {bound:.0e}")
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(os.path.abspath(os.path.join(a.out, "config.json")), os.path.join(folder, "config.json"))
        for name in os.listdir(os.path.join(a.out, "original")):  # beats.pt or ast.bin, clipseg.bin, acl.pth
            os.symlink(os.path.abspath(os.path.join(a.out, "original", name)), os.path.join(folder, name))
        pickled = run(a.soundsight, folder, a.out, folder)
        same = all(bool((found[name] == pickled[name]).all()) for name in found)
        print("pickles and safetensors:", "identical" if same else "DIFFERENT")
    sys.exit(failed or not same)


if __name__ == "__main__":
    main()
