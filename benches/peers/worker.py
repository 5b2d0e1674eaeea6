#!/usr/bin/env python3
"""The peers' side of `compare`, with the requests and answers of ours.rs, one line of JSON each.

    worker.py serve pytorch|pytorch-bf16|onnxruntime|onnxruntime-int8 MODEL --threads N
    worker.py onnx MODEL                     MODEL/onnx/{beats,vision}{,.int8}.onnx, where they are missing
    worker.py cold MODEL OUT.png --threads N from nothing to a heatmap on disk, then exit
"""
import argparse, json, os, sys, time
import numpy as np
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file
from peers import MEAN, STD, Peer, to_onnx, towers, train_step

RATE = 16000


class PyTorch:
    def __init__(self, folder, threads):
        torch.set_num_threads(threads)
        self.folder = folder
        with open(f"{folder}/config.json") as f:
            self.res = json.load(f)["acl"]["image_size"]
        self.m = Peer("full" if self.res == 352 else "mini", 0, weights=folder)
        sound, rate = soundfile.read(f"{folder}/clip.wav", dtype="float32")
        assert rate == RATE, f"{folder}/clip.wav: {rate} Hz"
        self.sound = torch.from_numpy(sound)
        self.picture = Image.open(f"{folder}/frame.png").convert("RGB")

    def hello(self):
        return dict(version=torch.__version__, threads=torch.get_num_threads())

    def inputs(self, batch=1, seconds=10.0, side=None):
        """The sound, cut or zero-padded, and the picture, each `batch` times."""
        side = side or self.res
        audio = torch.zeros(round(seconds * RATE))
        audio[:len(self.sound)] = self.sound[:len(audio)]
        picture = self.picture.resize((side, side), Image.Resampling.BICUBIC) if self.picture.size != (side, side) else self.picture
        image = (torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255 - MEAN) / STD
        return audio.repeat(batch, 1), image.repeat(batch, 1, 1, 1)

    def beats(self, fbank): return self.m.beats_features(fbank)

    def vision(self, image): return self.m.activations(self.m.vision(image))

    def localize(self, audio, image):
        m = self.m
        return m.logits(self.vision(image), m.embed_audio_token(m.proj(self.beats(m.beats.preprocess(audio)))))

    def job(self, stage, batch, seconds, side):
        """One execution of a stage; what comes from earlier stages is random."""
        m = self.m
        m.res = side
        audio, image = self.inputs(batch, seconds, side)
        fbank = m.beats.preprocess(audio)
        text, vision = m.ccfg["text_config"]["hidden_size"], m.ccfg["vision_config"]
        features = torch.randn(batch, fbank.shape[1] // 16 * 8, 3 * m.bcfg["encoder_embed_dim"])
        token, embedding = torch.randn(batch, text), torch.randn(batch, m.ccfg["projection_dim"])
        hidden = torch.randn(batch, (side // vision["patch_size"]) ** 2 + 1, vision["hidden_size"])
        return dict(fbank=lambda: m.beats.preprocess(audio), beats=lambda: self.beats(fbank), tokenizer=lambda: m.proj(features),
                    text=lambda: m.embed_audio_token(token), vision=lambda: self.vision(image), vision_all=lambda: m.vision(image),
                    decoder=lambda: m.logits([hidden] * len(m.ccfg["extract_layers"]), embedding), localize=lambda: self.localize(audio, image))[stage]

    def heatmap(self):
        self.m.res = self.res
        with torch.no_grad():
            return torch.sigmoid(self.localize(*self.inputs()) + self.m.b / self.m.w)

    def answer(self, op, **k):
        if op == "time":
            budget = k.pop("budget_ms")
            with torch.no_grad():
                return dict(ms=timed(self.job(**k), budget))
        if op == "train":
            self.m.res = self.res
            return dict(ms=timed(train_step(self.m, *self.inputs(k["batch"])), 0))
        if op == "agree":
            theirs = load_file(k["file"])["heatmap"]
            difference = (self.heatmap().flatten() - theirs.flatten()).abs()
            return dict(difference=difference.max().item(), mean=difference.mean().item())
        if op == "peak":
            with open("/proc/self/status") as f:
                return dict(mib=next(int(l.split()[1]) for l in f if l.startswith("VmHWM:")) / 1024)
        raise ValueError(op)


class PyTorchBf16(PyTorch):
    """The same under autocast: products in bf16."""

    def job(self, **size):
        inner = super().job(**size)
        def run():
            with torch.autocast("cpu", dtype=torch.bfloat16): return inner()
        return run

    def heatmap(self):
        with torch.autocast("cpu", dtype=torch.bfloat16): return super().heatmap().float()


class OnnxRuntime(PyTorch):
    """The two towers in ONNX Runtime, the vision tower pruned to the inputs of the decoder; the rest in PyTorch."""
    ending = "onnx"

    def __init__(self, folder, threads):
        import onnxruntime
        super().__init__(folder, threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads spin between the parts of a run, as by default, but not during the turns of other processes.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        load = lambda name: onnxruntime.InferenceSession(f"{folder}/onnx/{name}.{self.ending}", options, providers=["CPUExecutionProvider"])
        self.towers = {name: load(name) for name in ("beats", "vision")}
        self.version = onnxruntime.__version__

    def hello(self): return dict(super().hello(), version=self.version)

    def run(self, name, x):
        session = self.towers[name]
        return [torch.from_numpy(y) for y in session.run(None, {session.get_inputs()[0].name: x.numpy()})]

    def beats(self, fbank): return self.run("beats", fbank)[0]

    def vision(self, image): return self.run("vision", image)


class OnnxRuntimeInt8(OnnxRuntime):
    """The same with products of 8 bits: weights quantized once, activations on the way."""
    ending = "int8.onnx"


PEERS = {"pytorch": PyTorch, "pytorch-bf16": PyTorchBf16, "onnxruntime": OnnxRuntime, "onnxruntime-int8": OnnxRuntimeInt8}


def timed(f, budget):
    """The time of each execution in milliseconds: a single execution if it takes longer than the budget; otherwise,
    after a warm-up, as many as fit into the budget."""
    def once():
        start = time.perf_counter(); f(); return (time.perf_counter() - start) * 1e3
    first = once()
    if first >= budget: return [first]
    ms = []
    while not ms or sum(ms) < budget: ms.append(once())
    return ms


def serve(a):
    worker = PEERS[a.peer](a.model, a.threads)
    say = lambda answer: print(json.dumps(answer), flush=True)
    say(worker.hello())
    for line in sys.stdin: say(worker.answer(**json.loads(line)))


def onnx(a):
    os.makedirs(f"{a.model}/onnx", exist_ok=True)
    peer = PyTorch(a.model, a.threads)
    audio, image = peer.inputs()
    for (name, x), module in zip((("beats", peer.m.beats.preprocess(audio)), ("vision", image)), towers(peer.m)):
        path = f"{a.model}/onnx/{name}.onnx"
        if not os.path.exists(path):
            to_onnx(module, x, path + ".part")
            os.replace(path + ".part", path)
        int8 = f"{a.model}/onnx/{name}.int8.onnx"
        if not os.path.exists(int8):
            from onnxruntime.quantization import QuantType, quantize_dynamic
            quantize_dynamic(path, int8 + ".part", op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)
            os.replace(int8 + ".part", int8)


def cold(a):
    heatmap = PyTorch(a.model, a.threads).heatmap()
    Image.fromarray((heatmap[0, 0] * 65535).round().numpy().astype(np.uint16)).save(a.out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    s = p.add_subparsers(dest="cmd", required=True)
    x = s.add_parser("serve"); x.add_argument("peer", choices=list(PEERS)); x.set_defaults(f=serve)
    y = s.add_parser("onnx"); y.set_defaults(f=onnx)
    z = s.add_parser("cold"); z.set_defaults(f=cold)
    for q in (x, y, z):
        q.add_argument("model")
        q.add_argument("--threads", type=int, default=2)
    z.add_argument("out")
    a = p.parse_args(); a.f(a)


if __name__ == "__main__":
    main()
