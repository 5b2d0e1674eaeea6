"""Writes tests/fixtures/weights: small files of weights as PyTorch writes them, good and bad.

    python benches/peers/fixtures_weights.py tests/fixtures/weights

Needs torch and safetensors. Several files contain the same tensors, so that the tests can compare them:
`state.safetensors` and `state.bin`, for example.
"""

import os
import sys
import zipfile

import torch
from safetensors.torch import save_file


def state_dict():
    """Every number type and every layout that may occur in a state dict."""
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape):
        return torch.randn(*shape, generator=generator)

    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    for parameter in module.parameters():
        parameter.data = numbers(*parameter.shape)
    state = module.state_dict()  # an OrderedDict with a `_metadata` attribute, as the Hub's .bin files are
    base = numbers(5, 6)
    state["transposed"] = base.t()
    state["sliced"] = base[1:4, 2:5]
    state["every_other"] = base[::2, ::3]
    state["permuted"] = numbers(2, 3, 4).permute(2, 0, 1)
    state["row"] = base[2]
    state["tied"] = base
    state["parameter"] = torch.nn.Parameter(numbers(2, 2))
    state["scalar"] = numbers(1)[0].clone()
    state["one"] = numbers(1)
    state["empty"] = torch.empty(0, 3)
    state["f16"] = numbers(3, 2).half()
    state["f16_transposed"] = numbers(3, 2).half().t()
    state["bf16"] = numbers(7).bfloat16()
    state["f64"] = numbers(4).double()
    state["i64"] = torch.tensor([[-(2**40), -1, 0, 2**62]])
    state["i32"] = torch.tensor([-(2**31), 7], dtype=torch.int32)
    state["i16"] = torch.tensor([-300, 300], dtype=torch.int16)
    state["u8"] = torch.tensor([0, 255], dtype=torch.uint8)
    state["bool"] = torch.tensor([True, False, True])
    state["embeddings.position_ids"] = torch.arange(5)[None]
    return state


def beats(names):
    """{cfg, model, label_dict}, as the published fine-tuned BEATs checkpoints are; `names` of the weight norm."""
    cfg = {
        "embed_dim": 512,
        "conv_bias": False,
        "deep_norm": True,
        "layer_wise_gradient_decay_ratio": 0.6,
        "activation_fn": "gelu",
        "label_dict": None,
        "sizes": [1, 2.5, -3],
        "pair": (1, "two"),
        "wide": 2**40,
    }
    model = {
        f"encoder.pos_conv.0.{names[0]}": torch.arange(4.0).reshape(1, 1, 4),
        f"encoder.pos_conv.0.{names[1]}": torch.arange(8.0).reshape(2, 1, 4),
        "post_extract_proj.bias": torch.tensor([1.0, 2.0]),
    }
    return {"cfg": cfg, "model": model, "label_dict": {0: "/m/09x0r", 1: "/m/05zppz"}}


class Evil:
    """What a malicious pickle looks like: loading it runs a command."""

    def __reduce__(self):
        return os.system, ("echo executed > soundsight-executed",)


def repack(source, target, method=zipfile.ZIP_STORED, **replaced):
    """The same archive, as another program might write it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in old.namelist():
            # Without a date, so that the file is reproducible.
            new.writestr(zipfile.ZipInfo(name), replaced.get(name.split("/")[-1], old.read(name)), method)


def main(out):
    os.makedirs(out, exist_ok=True)
    path = lambda name: os.path.join(out, name)
    state = state_dict()
    torch.save(state, path("state.bin"))
    torch.save(state, path("state_protocol4.bin"), pickle_protocol=4)
    repack(path("state.bin"), path("state_repacked.bin"))
    plain = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    save_file(plain, path("state.safetensors"), {"made_by": "fixtures_weights.py"})
    torch.save(beats(("weight_g", "weight_v")), path("beats.pt"))
    parametrized = [f"parametrizations.weight.original{i}" for i in range(2)]
    torch.save(beats(parametrized), path("beats_parametrized.pt"))
    audio_proj = {"fc1": {"weight": torch.ones(2, 3)}, "fc1.bias": torch.zeros(2)}
    masker_i = {"w": torch.tensor(10.0), "b": torch.tensor([14.0])}
    torch.save({"audio_proj": audio_proj, "masker_i": masker_i}, path("acl.pth"))

    small = torch.arange(6.0).reshape(2, 3)
    torch.save({"weight": small}, path("small.pt"))
    repack(path("small.pt"), path("bad_compressed.pt"), zipfile.ZIP_DEFLATED)
    repack(path("small.pt"), path("bad_big_endian.pt"), byteorder=b"big")
    torch.save({"weight": small}, path("bad_legacy.pt"), _use_new_zipfile_serialization=False)
    torch.save({"weight": small, "surprise": Evil()}, path("bad_executes.pt"))
    torch.save({"weight": small, "group": {"weight": small, "name": "x"}}, path("bad_mixed.pt"))
    torch.save([small, small], path("bad_list.pt"))
    # 4 TB in a few hundred bytes, by repeating one number.
    torch.save({"weight": torch.zeros(1).expand(2**40)}, path("bad_expanded.pt"))
    cycle = {"weight": small}
    cycle["again"] = cycle
    torch.save(cycle, path("bad_cycle.pt"))
    bomb = {"weight": small}
    for _ in range(12):
        bomb = {str(i): bomb for i in range(10)}
    torch.save(bomb, path("bad_bomb.pt"))


if __name__ == "__main__":
    main(sys.argv[1])
