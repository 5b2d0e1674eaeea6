#!/usr/bin/env python3
"""Creates the fixtures of the AST encoder with Hugging Face's transformers (5.24.0; set-up: see peers.py).

    fixtures_ast.py tests/fixtures/ast     the small fixtures
    fixtures_ast.py full OUT               a model directory with an AST encoder of full size, for parity.py

The small ones are what a model directory needs beside the CLIPSeg weights of `../alt` (`config.json`, `ast.safetensors` as
`ASTForAudioClassification.save_pretrained` writes it, `acl.safetensors`), every hidden state and every stage of a localization
(`expected.safetensors`), and what ASTFeatureExtractor makes of a recording (`horse`, of 120 frames). `plain.bin` is an
`ASTModel` with other settings, without the prefix and without biases of queries, keys and values, as a pickle;
`plain.json` are its settings, `plain.…` its tensors.
"""
import json, os, sys, tempfile
import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import fixtures
import peers
from safetensors.torch import load_file, save_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/fixtures")
SMALL = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48, patch_size=8,
             frequency_stride=5, time_stride=6, num_mel_bins=32, max_length=96)
PLAIN = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, patch_size=16, qkv_bias=False,
             frequency_stride=10, time_stride=10, num_mel_bins=36, max_length=50, hidden_act="relu", layer_norm_eps=1e-5)


def encoder(kind, settings, seed):
    """A model of random weights, large enough for the tensors to vary."""
    m = kind(ASTConfig(**settings)).eval()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in m.named_parameters():
            if p.ndim <= 1:
                p.copy_(float("layernorm" in name and name.endswith("weight")) + 0.1 * torch.randn(p.shape, generator=g))
            else:
                scale = 0.3 if "embeddings" in name and "projection" not in name else p[0].numel() ** -0.5
                p.copy_(torch.randn(p.shape, generator=g) * scale)
    return m


def published(m):
    """The tensors under the names that `save_pretrained` writes, and `config.json`."""
    with tempfile.TemporaryDirectory() as folder:
        m.save_pretrained(folder)
        return load_file(folder + "/model.safetensors"), json.load(open(folder + "/config.json"))


def extractor(config):
    return ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length)


def fbank(extract, wave):
    return extract(np.asarray(wave, dtype=np.float32), sampling_rate=16000, return_tensors="pt")["input_values"]


def states(m, x):
    """Every hidden state without the final LayerNorm, the last one with it, and the pooled output."""
    m = getattr(m, "audio_spectrogram_transformer", m)
    out = m(x, output_hidden_states=True)
    named = {f"hidden.{i}": t for i, t in enumerate(out.hidden_states)}
    return named | dict(last_hidden_state=out.last_hidden_state, pooled=out.pooler_output)


def localization(m, p, proj, blocks, wave, image):
    """Every stage from the sound and the picture to the heatmap, where `p` has the other encoders."""
    x = fbank(extractor(m.config), wave)
    s = states(m, x)
    features = torch.cat([s[f"hidden.{i + 1}"][:, 2:] for i in blocks], -1)
    token = proj(features)
    e = p.embed_audio_token(token)
    vision = p.vision(image)
    logits = p.logits(p.activations(vision), e)
    logits224 = F.interpolate(logits, 224, mode="bicubic")
    heat = lambda l: torch.sigmoid(l + p.b / p.w)
    found = dict(fbank=x, ast_features=features, audio_token=token, audio_embedding=e, image=image, logits=logits,
                 heatmap=heat(logits), heatmap224=heat(logits224), image_embedding=p.pooled(vision),
                 dense_features=p.dense(vision))
    return s, found


def tokenizer(inputs, p, seed):
    proj = peers.AudioProj(inputs, p.clipseg.config.text_config.hidden_size).eval()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in proj.parameters():
            w.copy_(torch.randn(w.shape, generator=g) * (0.1 if w.ndim == 1 else w[0].numel() ** -0.5))
    return proj


def head(p, proj):
    return {"audio_proj." + n: t for n, t in proj.state_dict().items()} | {"masker_i.w": p.w, "masker_i.b": p.b}


def acl_config(config, blocks, image_size, **more):
    """ACL's settings; the sound is as long as its frames."""
    seconds = ((config.max_length - 1) * 160 + 400) / 16000
    return dict(audio_encoder="ast", audio_seconds=seconds, num_mel_bins=config.num_mel_bins, audio_blocks=blocks,
                image_size=image_size) | more


def small(out):
    os.makedirs(out, exist_ok=True)
    m, plain = encoder(ASTForAudioClassification, SMALL, 0), encoder(ASTModel, PLAIN, 1)
    p, blocks = fixtures.AltPeer(1), [0, 1, 2]
    proj = tokenizer(len(blocks) * SMALL["hidden_size"], p, 2)
    wave, _ = soundfile.read(HERE + "/alt/clip.wav", dtype="float32")
    image = load_file(HERE + "/alt/expected.safetensors")["image"]
    with torch.no_grad():
        s, found = localization(m, p, proj, blocks, wave, image)
        for name in ("image", "image_embedding", "dense_features", "heatmap", "heatmap224"):  # as in `../alt`, or follow
            del found[name]
        x = fbank(extractor(plain.config), wave)
        expected = s | found | {"plain.fbank": x} | {"plain." + n: t for n, t in states(plain, x).items()}
    horse, _ = soundfile.read(HERE + "/audio/horse.wav", dtype="float32")
    recording = fbank(ASTFeatureExtractor(max_length=120), horse)[0]
    tensors, config = published(m)
    save_file(tensors, out + "/ast.safetensors")
    alt = json.load(open(HERE + "/alt/config.json"))
    acl = acl_config(m.config, blocks, 96, prompt=fixtures.ALT_ACL["prompt"], prompt_ids=fixtures.ALT_ACL["prompt_ids"])
    json.dump({"ast": config, "clipseg": alt["clipseg"], "acl": acl}, open(out + "/config.json", "w"), indent=1)
    save_file(fixtures.contiguous(head(p, proj)), out + "/acl.safetensors")
    save_file(fixtures.contiguous(expected | {"horse": recording}), out + "/expected.safetensors")
    tensors, config = published(plain)
    torch.save(tensors, out + "/plain.bin")
    json.dump(config, open(out + "/plain.json", "w"), indent=1)


def full(out):
    """With `original/`, so that parity.py compares a pickle too."""
    from PIL import Image
    os.makedirs(out + "/original", exist_ok=True)
    torch.manual_seed(0)
    m, p, blocks = ASTForAudioClassification(ASTConfig()).eval(), peers.Peer("full", 0), [3, 7, 11]
    with torch.no_grad():  # ASTModel starts with tokens and positions of zero
        for t in (m.audio_spectrogram_transformer.embeddings.cls_token, m.audio_spectrogram_transformer.embeddings.distillation_token,
                  m.audio_spectrogram_transformer.embeddings.position_embeddings):
            t.normal_(0, 0.02)
    proj = peers.AudioProj(3 * 768, 512).eval()
    wav, px, _, image = peers.sample(p)
    wave = (wav / 32768.0).astype(np.float32)
    soundfile.write(out + "/clip.wav", wav, 16000, subtype="PCM_16")
    Image.fromarray(px).save(out + "/frame.png")
    with torch.no_grad():
        s, found = localization(m, p, proj, blocks, wave, image)
    save_file(fixtures.contiguous(found), out + "/expected.safetensors")
    save_file(fixtures.contiguous(s), out + "/hidden.safetensors")
    tensors, config = published(m)
    save_file(tensors, out + "/ast.safetensors")
    torch.save(tensors, out + "/original/ast.bin")
    clipseg = fixtures.contiguous(p.clipseg.state_dict())
    save_file(clipseg, out + "/clipseg.safetensors")
    torch.save(clipseg, out + "/original/clipseg.bin")
    acl = fixtures.contiguous(head(p, proj))
    save_file(acl, out + "/acl.safetensors")
    torch.save(acl, out + "/original/acl.pth")
    parts = {"ast": config, "clipseg": p.ccfg, "acl": acl_config(m.config, blocks, 352)}
    json.dump(parts, open(out + "/config.json", "w"), indent=1)


def main(arguments):
    out = arguments[-1]
    (full if arguments[0] == "full" else small)(out)
    for folder, _, files in os.walk(out):  # safetensors writes private files
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)


if __name__ == "__main__":
    main(sys.argv[1:])
