#!/usr/bin/env python3
"""Creates the parity fixtures of the tests with the PyTorch peers (set-up: see peers.py).

    fixtures.py tests/fixtures

writes `mini/` (what `peers.py export --size mini` writes) and `alt/`, a second model with every other setting: no deep
norm, LayerNorm first, no gate on the relative position bias, a simple transposed convolution, other depths and blocks,
a position table that needs no interpolation, and its own prompt and vocabulary. Each folder also gets a
`hidden.safetensors` with every hidden state of BEATs and of both CLIP towers, and the tagging head.
"""
import json, os, sys
import numpy as np
import torch
import torch.nn.functional as F
import peers
from safetensors.torch import save_file

contiguous = lambda d: {k: v.detach().contiguous().clone() for k, v in d.items()}


def hidden_states(m, ids):
    """Every hidden state for the exported sound and picture, and for a text prompt of `ids`."""
    out = {}
    with torch.no_grad():
        _, _, audio, image = peers.sample(m)
        b = m.beats
        fbank = b.preprocess(audio)
        x = b.layer_norm(b.patch_embedding(fbank.unsqueeze(1)).flatten(2).transpose(1, 2))
        x = b.post_extract_proj(x) if b.post_extract_proj is not None else x
        last, h = b.encoder(x, padding_mask=None, output_all_hiddens=True)
        for i, t in enumerate(h):
            out[f"beats.{i}"] = t if t.shape[0] == 1 else t.transpose(0, 1)
        out["beats.tags"] = torch.sigmoid(b.predictor(last).mean(1))
        vision = m.vision(image)
        for i, t in enumerate(vision.hidden_states):
            out[f"vision.{i}"] = t
        ids = torch.tensor([ids])
        text = m.clipseg.clip.text_model(input_ids=ids, output_hidden_states=True)
        for i, t in enumerate(text.hidden_states):
            out[f"text.{i}"] = t
        embedding = m.clipseg.clip.text_projection(text.last_hidden_state[:, -1])
        out["text.last_hidden_state"], out["text.embedding"] = text.last_hidden_state, embedding
        out["text.ids"] = ids.int()
        out["text.logits"] = m.logits(m.activations(vision), embedding)
        # the vision tower at the size of its own position table, where nothing is interpolated
        side = m.ccfg["vision_config"]["image_size"]
        small = image[:, :, :side, :side].contiguous()
        v = m.clipseg.clip.vision_model(small, interpolate_pos_encoding=True)
        out["small.image"], out["small.pooled"] = small, v.pooler_output
    return contiguous(out)


def alt_configs(_):
    b = dict(input_patch_size=16, embed_dim=40, conv_bias=True, encoder_layers=5, encoder_embed_dim=40,
             encoder_ffn_embed_dim=72, encoder_attention_heads=5, activation_fn="relu", layer_norm_first=True,
             deep_norm=False, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, encoder_layerdrop=0.0,
             dropout_input=0.0, layer_wise_gradient_decay_ratio=1.0, conv_pos=15, conv_pos_groups=4,
             relative_position_embedding=True, num_buckets=32, max_distance=60, gru_rel_pos=False,
             finetuned_model=True, predictor_dropout=0.0, predictor_class=5)
    t = dict(vocab_size=60, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=3,
             max_position_embeddings=12, hidden_act="gelu", eos_token_id=51)
    v = dict(hidden_size=32, intermediate_size=56, num_hidden_layers=5, num_attention_heads=2, image_size=96,
             patch_size=8, hidden_act="gelu")
    c = dict(text_config=t, vision_config=v, projection_dim=20, extract_layers=[1, 4], reduce_dim=24,
             decoder_num_attention_heads=3, decoder_intermediate_size=40, conditional_layer=1,
             use_complex_transposed_convolution=False)
    return b, c


ALT_ACL = dict(image_size=96, audio_seconds=2.5, audio_blocks=[0, 4], prompt="sound of {}",
               prompt_ids=dict(before=[50, 7, 9], after=[51]))


class AltPeer(peers.Peer):
    """The same model with the other settings; two audio blocks in place of three."""

    def __init__(self, seed):
        configs, proj = peers.configs, peers.AudioProj
        peers.configs = alt_configs
        blocks = len(ALT_ACL["audio_blocks"])
        peers.AudioProj = lambda i, o: proj(i // 3 * blocks, o)

        class Upsampling(torch.nn.ConvTranspose2d):
            # peers.py scales element 4 of the published sequence; here the one layer takes its place
            __getitem__ = lambda self, _: self
        original = torch.nn.ConvTranspose2d
        torch.nn.ConvTranspose2d = Upsampling
        try:
            super().__init__("mini", seed)
        finally:
            peers.configs, peers.AudioProj, torch.nn.ConvTranspose2d = configs, proj, original
        with torch.no_grad():  # keep logits within two units of zero: one wide layer sums more than the published two
            self.clipseg.decoder.transposed_convolution.weight.div_(3)

    def beats_features(self, fbank):
        b = self.beats
        x = b.layer_norm(b.patch_embedding(fbank.unsqueeze(1)).flatten(2).transpose(1, 2))
        x = b.post_extract_proj(x) if b.post_extract_proj is not None else x
        _, h = b.encoder(x, padding_mask=None, output_all_hiddens=True)
        h = [t if t.shape[0] == fbank.shape[0] else t.transpose(0, 1) for t in h]
        return torch.cat([h[i + 1] for i in ALT_ACL["audio_blocks"]], -1)

    def embed_audio_token(self, token):
        text, ids = self.clipseg.clip.text_model, ALT_ACL["prompt_ids"]
        words = lambda i: text.embeddings.token_embedding(torch.tensor(i)).unsqueeze(0).repeat(token.shape[0], 1, 1)
        x = torch.cat([words(ids["before"]), token.unsqueeze(1), words(ids["after"])], 1)
        x = x + text.embeddings.position_embedding(torch.arange(x.shape[1]))
        mask = torch.full((x.shape[1],) * 2, float("-inf")).triu(1)
        for layer in text.encoder.layers:
            a, y = layer.self_attn, layer.layer_norm1(x)
            split = lambda z: z.view(*y.shape[:2], a.num_heads, -1).transpose(1, 2)
            y = F.scaled_dot_product_attention(split(a.q_proj(y)), split(a.k_proj(y)), split(a.v_proj(y)), mask)
            x = x + a.out_proj(y.transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.layer_norm2(x))
        return self.clipseg.clip.text_projection(text.final_layer_norm(x)[:, -1])


def alt(out):
    """Writes the same files as the export of peers.py, for the other settings."""
    os.makedirs(out, exist_ok=True)
    m = AltPeer(1)
    sd = contiguous(m.beats.state_dict())
    names = {"original0": "weight_g", "original1": "weight_v"}
    for old, new in names.items():
        sd = {k.replace(f"pos_conv.0.parametrizations.weight.{old}", f"pos_conv.0.{new}"): v for k, v in sd.items()}
    save_file(sd, out + "/beats.safetensors")
    save_file(contiguous(m.clipseg.state_dict()), out + "/clipseg.safetensors")
    acl = {"audio_proj." + k: v for k, v in m.proj.state_dict().items()}
    save_file(contiguous({**acl, "masker_i.w": m.w, "masker_i.b": m.b}), out + "/acl.safetensors")
    json.dump({"beats": m.bcfg, "clipseg": m.ccfg, "acl": ALT_ACL}, open(out + "/config.json", "w"), indent=1)
    sample = peers.sample
    seconds = ALT_ACL["audio_seconds"]
    peers.sample = lambda m, *a: (lambda w, p, x, i: (w, p, x[:, :int(16000 * seconds)], i))(*sample(m, *a))
    try:
        wav, px, audio, image = peers.sample(m)
        import soundfile
        from PIL import Image
        soundfile.write(out + "/clip.wav", wav, 16000, subtype="PCM_16")
        Image.fromarray(px).save(out + "/frame.png")
        with torch.no_grad():
            fb = m.beats.preprocess(audio)
            hidden = hidden_states(m, [50, 3, 11, 51])
            # In double precision: in single precision, the peer's rounding alone takes two thirds of the tolerance.
            m.double()
            torch.set_default_dtype(torch.float64)
            bf = m.beats_features(fb.double()); tok = m.proj(bf); e = m.embed_audio_token(tok)
            vo = m.vision(image.double()); lg = m.logits(m.activations(vo), e)
            lg224 = F.interpolate(lg.float(), 224, mode="bicubic")  # positions in single precision, as inference has them
            expected = dict(fbank=fb, beats_features=bf, audio_token=tok, audio_embedding=e, image=image, logits=lg,
                            heatmap=torch.sigmoid(lg + m.b / m.w), heatmap224=torch.sigmoid(lg224 + m.b / m.w),
                            image_embedding=m.pooled(vo), dense_features=m.dense(vo))
            save_file({k: v.float() for k, v in contiguous(expected).items()}, out + "/expected.safetensors")
        save_file(hidden, out + "/hidden.safetensors")
    finally:
        peers.sample = sample
        torch.set_default_dtype(torch.float32)


def main(out):
    import argparse
    peers.export(argparse.Namespace(out=out + "/mini", size="mini", seed=0))
    save_file(hidden_states(peers.Peer("mini", 0), [49406, 1, 777, 49407]), out + "/mini/hidden.safetensors")
    alt(out + "/alt")
    for folder, _, files in os.walk(out):  # safetensors writes private files
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)


if __name__ == "__main__":
    main(sys.argv[1])
