#!/usr/bin/env python3
"""Writes expected values for the tests of `train` to tests/fixtures/train/.

    fixtures_train.py optimizer    optimizer.safetensors, by torch (2.11)
    fixtures_train.py steps        steps.safetensors, by peers.py
    fixtures_train.py direct       direct.safetensors, by peers.py
    fixtures_train.py nothing      nothing.safetensors, by peers.py
    fixtures_train.py prompt       prompt.safetensors, by peers.py
    fixtures_train.py events       events.tfevents, by TensorBoard's own protocol buffers (pip install tensorboard)
    fixtures_train.py read FOLDER  prints what TensorBoard reads from a run's folder

optimizer.safetensors: for each case (a torch.optim configuration), `<case>.<parameter>.<step>`: the parameter after
that many steps; `start.<parameter>` and `gradient.<parameter>.<step>` are the same for all cases. `b` has no gradient
in the third step.

steps.safetensors: five steps of Adam on the published losses, from the mini model and the batch of its
training.safetensors: `loss` [5], and each trainable tensor after the fifth step. The noise is a function of the
position (`noise` below), so that it need not be stored.

direct.safetensors: the losses of a model without a text tower, from the same frozen weights and batch, with the noise of
draws 0 and 1: its trainable tensors, the audio-driven embeddings, every loss term and every gradient.

nothing.safetensors: every loss term and every gradient of the mini model and the batch of its training.safetensors, with
two sounds that belong to no image: silence, and noise of draw 9 between -0.1 and 0.1. The masks have the noise of draws 0
to 2.

prompt.safetensors: the same with a learned prompt of four vectors, which depends on the image: the tensors of its net, the
vectors, the audio-driven embeddings of every sound for every image, every loss term and every gradient.
"""
import os, sys

OUT = os.path.join(os.path.dirname(__file__), "../../tests/fixtures/train")
STEPS = 6


def optimizer():
    import torch
    from safetensors.torch import save_file
    g = torch.Generator().manual_seed(0)
    start = {"a": torch.randn(3, 4, generator=g), "b": torch.randn(5, generator=g)}
    gradients = [{n: torch.randn(p.shape, generator=g) * 10.0 ** -s for n, p in start.items()} for s in range(STEPS)]
    out = {"start." + n: p for n, p in start.items()}
    out |= {f"gradient.{n}.{s + 1}": gradients[s][n] for s in range(STEPS) for n in start if (n, s) != ("b", 2)}
    one = lambda p, **k: [dict(params=list(p.values()), **k)]
    cases = dict(
        adam=lambda p: (torch.optim.Adam(one(p), lr=1e-2, weight_decay=1e-1), None),
        adamw=lambda p: (torch.optim.AdamW(one(p), lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=1e-1), None),
        clipped=lambda p: (torch.optim.Adam(one(p), lr=1e-2), 0.5),
        groups=lambda p: (torch.optim.Adam([dict(params=[p["a"]], lr=1e-2), dict(params=[p["b"]], lr=5e-2, weight_decay=0.3)]), None),
    )
    for case, make in cases.items():
        p = {n: torch.nn.Parameter(t.clone()) for n, t in start.items()}
        opt, max_norm = make(p)
        for s in range(STEPS):
            for n in p:
                p[n].grad = gradients[s][n].clone() if f"gradient.{n}.{s + 1}" in out else None
            if max_norm:
                torch.nn.utils.clip_grad_norm_(p.values(), max_norm)
            opt.step()
            out |= {f"{case}.{n}.{s + 1}": q.detach().clone() for n, q in p.items()}
    save_file(out, OUT + "/optimizer.safetensors")


def noise(shape, draw):
    """Uniform noise by hashing positions: the same numbers in any language."""
    import numpy as np
    import torch
    word = np.uint64(0xFFFFFFFF)
    x = (np.arange(np.prod(shape), dtype=np.uint64) * np.uint64(2654435761) + np.uint64(draw * 374761393)) & word
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & word
    x ^= x >> np.uint64(16)
    return torch.tensor((x >> np.uint64(8)).astype(np.float32) / 2.0**24).view(shape)


def steps():
    import peers
    import torch
    from safetensors.torch import load_file
    m = peers.Peer("mini", 0)
    batch = load_file(os.path.join(OUT, "../mini/training.safetensors"))
    opt = torch.optim.Adam(peers.freeze(m), lr=1e-3, weight_decay=1e-4)
    draws, found = iter(range(100)), []
    torch.rand = lambda shape, generator: noise(shape, next(draws))
    for _ in range(5):
        loss = peers.losses(m, batch["audio"], batch["image"])[-1]["loss"]
        opt.zero_grad(); loss.backward(); opt.step()
        found.append(loss.detach())
    out = {"audio_proj." + n: p.detach() for n, p in m.proj.named_parameters()}
    out |= {"masker_i.w": m.w.detach(), "masker_i.b": m.b.detach(), "loss": torch.stack(found)}
    save(out, "steps")


def direct():
    import peers
    import torch
    from safetensors.torch import load_file
    m = peers.Peer("mini", 0)
    batch = load_file(os.path.join(OUT, "../mini/training.safetensors"))
    m.proj = peers.AudioProj(3 * m.bcfg["encoder_embed_dim"], m.ccfg["projection_dim"])
    g = torch.Generator().manual_seed(5)
    # Large enough that the embeddings of three sounds differ, small enough that rounding to single precision changes no
    # gradient by more than a few ten-thousandths.
    with torch.no_grad():
        for p in m.proj.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.1 if p.ndim == 1 else p[0].numel() ** -0.5))
        m.proj.fc2.weight.mul_(2); m.proj.fga.un_models[0]["feature_reduce"].weight.mul_(4)
    m.embed_audio_token = lambda token: token  # the AudioTokenizer's output is the embedding
    m.eval(); peers.freeze(m)
    out, trainable = terms_and_gradients(m, batch)
    out |= {n: p.detach() for n, p in trainable.items()}
    with torch.no_grad():
        out["audio_embedding"] = m.proj(m.beats_features(m.beats.preprocess(batch["audio"])))
    save(out, "direct")


def nothing():
    import peers
    import torch
    from safetensors.torch import load_file
    m = peers.Peer("mini", 0); peers.freeze(m)
    batch = load_file(os.path.join(OUT, "../mini/training.safetensors"))
    save(terms_and_gradients(m, batch, nothing=silence_and_noise(batch))[0], "nothing")


def silence_and_noise(batch):
    import torch
    samples = batch["audio"].shape[1]
    return torch.stack([torch.zeros(samples), 0.2 * noise((samples,), 9) - 0.1])


def prompt():
    import peers
    import torch
    from safetensors.torch import load_file
    m = peers.Peer("mini", 0)
    batch = load_file(os.path.join(OUT, "../mini/training.safetensors"))
    m.prompt = peers.PromptNet(m.ccfg["projection_dim"], 4, m.ccfg["text_config"]["hidden_size"])
    # With this seed, no ReLU of the decoder has an input within 1e-5 of zero, where rounding would decide about its gradient.
    g = torch.Generator().manual_seed(3)
    # The one hidden unit tells the images apart, and the vectors are about as large as the words' embeddings.
    with torch.no_grad():
        directions = torch.nn.functional.normalize(m.pooled(m.vision(batch["image"])))
        first = directions[0] - directions.mean(0)
        m.prompt[0].weight.copy_(first / first.square().sum())
        m.prompt[0].bias.copy_(0.8 - m.prompt[0].weight @ directions.mean(0))
        for p in (m.prompt[2].weight, m.prompt[2].bias):
            p.copy_(torch.randn(p.shape, generator=g) * 0.4)
    m.eval(); peers.freeze(m)
    out, trainable = terms_and_gradients(m, batch, nothing=silence_and_noise(batch))
    out |= {n: p.detach() for n, p in trainable.items() if n.startswith("prompt_net.")}
    with torch.no_grad():
        out["vectors"] = m.prompt(m.pooled(m.vision(batch["image"])))
        out["audio_embedding"] = m.embed_pairs(m.proj(m.beats_features(m.beats.preprocess(batch["audio"]))), batch["image"])
    save(out, "prompt")


def terms_and_gradients(m, batch, **more):
    """Every term and gradient with the noise of draws 0, 1 …, and the trainable tensors."""
    import peers
    import torch
    draws = iter(range(100))
    torch.rand = lambda shape, generator: noise(shape, next(draws))
    found = peers.losses(m, batch["audio"], batch["image"], **more)[-1]
    found["loss"].backward()
    trainable = {"audio_proj." + n: p for n, p in m.proj.named_parameters()} | {"masker_i.w": m.w, "masker_i.b": m.b}
    if m.prompt is not None: trainable |= {"prompt_net." + n: p for n, p in m.prompt.named_parameters()}
    out = {n: v.detach().reshape(-1) if v.ndim == 0 else v.detach() for n, v in found.items()}
    return out | {"grad." + n: p.grad for n, p in trainable.items()}, trainable


def save(out, name):
    from safetensors.torch import save_file
    save_file({n: t.contiguous() for n, t in out.items()}, f"{OUT}/{name}.safetensors")
    os.chmod(f"{OUT}/{name}.safetensors", 0o644)  # safetensors writes private files


def events():
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter
    value, image = Summary.Value, Summary.Image
    with open(OUT + "/events.tfevents", "wb") as f:
        writer = RecordWriter(f)
        for event in (
            Event(wall_time=1, file_version="brain.Event:2"),
            Event(wall_time=1, step=300, summary=Summary(value=[value(tag="train/loss", simple_value=0.25), value(tag="train/p_area", simple_value=-1.5)])),
            Event(wall_time=1, step=70000, summary=Summary(value=[value(tag="samples/a", image=image(height=2, width=300, colorspace=3, encoded_image_string=bytes(range(256))))])),
        ):
            writer.write(event.SerializeToString())


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(folder, size_guidance=dict(scalars=0, images=0)).Reload()
    for tag in events.Tags()["scalars"]:
        values = [(e.step, round(e.value, 6)) for e in events.Scalars(tag)]
        print(tag, len(values), values[:3], "...", values[-1])
    for tag in events.Tags()["images"]:
        print(tag, [(e.step, e.width, e.height, e.encoded_image_string[:8]) for e in events.Images(tag)][:3])


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    {"optimizer": optimizer, "steps": steps, "direct": direct, "nothing": nothing, "prompt": prompt, "events": events, "read": read}[sys.argv[1]](*sys.argv[2:])
