#!/usr/bin/env python3
"""Parity at full size: every tensor of `localize --save-tensors` against PyTorch's (set-up: see peers.py).

    peers.py export OUT --size full    (or with AST: fixtures_ast.py full OUT)
    cargo build --release --features cli
    parity.py OUT [--soundsight target/release/soundsight]

Runs the model in OUT from its safetensors files and, in a separate folder, from pickles as published. Prints the
largest absolute difference of every tensor, and fails if one exceeds its bound or the two formats give different
results.
"""
import argparse, os, subprocess, sys, tempfile
from safetensors.torch import load_file

BOUNDS = {"heatmap": 1e-5, "heatmap224": 1e-5}  # everything else: 1e-4


def run(soundsight, model, inputs, folder):
    file = os.path.join(folder, "tensors.safetensors")
    sound, picture = (os.path.join(inputs, name) for name in ("clip.wav", "frame.png"))
    subprocess.run([soundsight, "localize", "--model", model, "--out", folder, "--save-tensors", file, sound, picture],
                   check=True, stdout=subprocess.DEVNULL)
    return load_file(file)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--soundsight", default="target/release/soundsight")
    a = p.parse_args()
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
