"""Creates tests/fixtures/image and tests/fixtures/tokenizer with the results of Pillow, torch and transformers.

    python benches/peers/fixtures_image.py

Photographs: china.jpg and flower.jpg of scikit-learn's sample images (CC BY 2.0, see tests/fixtures/image/README.md).
"""

import json
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image
from tokenizers import Regex, pre_tokenizers
from transformers import CLIPTokenizer

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures"
ORIENTATION = 0x0112
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

README = """Made by `benches/peers/fixtures_image.py`.

The photographs are parts of scikit-learn's sample images, made smaller and re-encoded, both Creative Commons
Attribution 2.0 (https://creativecommons.org/licenses/by/2.0/):

- `china`: https://www.flickr.com/photos/danielbuechele/6061409035/
- `flower`: https://www.flickr.com/photos/vultilion/6056698931/
"""


def png16(path, samples):
    """A 16-bit PNG of samples [H, W, C], which Pillow cannot write in colour."""
    height, width, channels = samples.shape
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(data)


def pillow(path):
    """The picture as Pillow reads it."""
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def formats(folder):
    """A small picture in many formats, with the pixels that Pillow reads from each."""
    folder.mkdir(parents=True, exist_ok=True)
    photo = Image.fromarray(load_sample_image("china.jpg")).crop((150, 100, 406, 292)).resize((32, 24), Image.BICUBIC)
    photo = photo.crop((0, 0, 29, 21))  # odd sides: half-filled JPEG blocks, padded BMP rows
    alpha = Image.fromarray(np.add.outer(np.arange(21) * 7, np.arange(29) * 3).astype(np.uint8))
    grey, clear = photo.convert("L"), photo.copy()
    clear.putalpha(alpha)
    palette = photo.quantize(32)
    exif = Image.Exif()
    cases = []

    def add(name, tolerance=0, expected=None):
        """`tolerance`: the largest difference; lossy formats do not define the exact inverse transform."""
        picture = pillow(folder / name) if expected is None else Image.fromarray(expected)
        cases.append({"file": name, "width": picture.width, "height": picture.height, "tolerance": tolerance})
        (folder / f"{name}.rgb").write_bytes(picture.tobytes())

    def save(picture, name, tolerance=0, **options):
        picture.save(folder / name, **options)
        add(name, tolerance)

    save(photo, "rgb.png")
    save(grey, "grey.png")
    save(grey.convert("1"), "bilevel.png")
    save(clear.convert("LA"), "grey_alpha.png")
    save(clear, "rgba.png")
    save(palette, "palette.png")
    save(palette, "palette_transparent.png", transparency=bytes(range(0, 256, 8)))
    save(photo, "color_key.png", transparency=photo.getpixel((3, 4)))
    wide = np.asarray(clear).astype(np.uint16) * 256 + np.arange(29, dtype=np.uint16)[None, :, None] * 8
    png16(folder / "rgb16.png", wide[:, :, :3])
    add("rgb16.png")
    png16(folder / "rgba16.png", wide)
    add("rgba16.png")
    # Pillow clips 16-bit grey at 255; of 16-bit colour, it keeps the high byte.
    png16(folder / "grey16.png", wide[:, :, :1])
    add("grey16.png", expected=np.repeat((wide[:, :, :1] >> 8).astype(np.uint8), 3, axis=2))

    save(photo, "rgb444.jpg", 2, quality=90, subsampling=0)
    save(photo, "rgb420.jpg", 2, quality=90, subsampling=2)
    save(photo, "progressive.jpg", 2, quality=90, progressive=True)
    save(grey, "grey.jpg", 1, quality=90)
    save(photo.convert("CMYK"), "cmyk.jpg", 3, quality=95)
    save(photo, "lossless.webp", lossless=True)
    save(clear, "alpha.webp", lossless=True, exact=True)
    save(photo, "lossy.webp", 3, quality=90)
    save(palette, "palette.gif")
    save(palette, "transparent.gif", transparency=5)
    save(palette, "animated.gif", save_all=True, append_images=[palette.transpose(Image.FLIP_LEFT_RIGHT)])
    save(photo, "rgb.bmp")
    save(palette, "palette.bmp")
    save(photo, "lzw.tiff", compression="tiff_lzw")
    save(grey, "grey.tiff")
    save(photo, "binary.ppm")
    save(photo, "rle.tga", compression="tga_rle")
    save(clear, "rgba.ico", sizes=[(29, 21)])

    for value in range(1, 9):
        exif[ORIENTATION] = value
        save(photo, f"orientation{value}.jpg", 2, quality=90, subsampling=0, exif=exif)
    exif[ORIENTATION] = 6
    save(photo, "orientation6.png", exif=exif)
    save(photo, "orientation6.webp", lossless=True, exif=exif)
    save(photo, "orientation6.tiff", tiffinfo={ORIENTATION: 6})
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


def resizes(folder):
    """Photographs, and Pillow's versions of them at other sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    china = Image.fromarray(load_sample_image("china.jpg")).crop((120, 60, 280, 180))
    flower = Image.fromarray(load_sample_image("flower.jpg")).crop((180, 60, 308, 156))
    sizes = {
        "china": [(352, 352), (224, 100), (64, 48), (200, 31), (160, 77), (7, 5), (1, 1)],
        "flower": [(352, 352), (53, 160), (128, 12), (19, 96)],
    }
    for name, picture in (("china", china), ("flower", flower)):
        picture.save(folder / f"{name}.png", optimize=True)
        for size in sizes[name]:
            file = f"{name}_{size[0]}x{size[1]}.png"
            picture.resize(size, Image.BICUBIC).save(folder / file, optimize=True)
            cases.append({"source": f"{name}.png", "file": file, "width": size[0], "height": size[1]})
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


def normalized(path):
    """Every byte in every channel, by torch: the list [3][256]."""
    bytes_ = torch.arange(256).float() / 255
    values = (bytes_[None, :] - torch.tensor(CLIP_MEAN)[:, None]) / torch.tensor(CLIP_STD)[:, None]
    path.write_text(json.dumps(values.tolist()) + "\n")


CORPUS = """A photo of a dog barking in the garden. A photo of a cat on the piano. The sound of rain falling on the roof,
thunder rolling over the hills; people clapping, a baby laughing, church bells ringing. It's the engine of a car that
we've heard, they're singing and I'm listening, he'll play the violin and she'd play the drums, don't stop! A train
passing by, a helicopter hovering, 12 ducks quacking and 345 frogs croaking near the water. Ein Hund bellt, une voiture
passe, el niño toca la guitarra, café naïve façade, Москва поёт песню, 東京の音楽 音楽 ねこ ねこ 🎵🎵 🎻 👍🏽 👨‍👩‍👧 and the sea
waves crash on the shore while the wind whistles through the trees of the forest."""

TEXTS = [
    "",
    " ",
    "a photo of a dog",
    "A Photo OF  a\tDOG\n",
    "A photo of {}",
    "it's the engine we've heard, they're singing, I'm here, he'll, she'd, don't",
    "IT'S THE DOG'S'S",
    "12 ducks and 345 frogs, 6.28 & 1,000!",
    "café naïve façade niño",
    "cafe\u0301 nai\u0308ve",  # the same words, decomposed
    "Москва ПОЁТ песню",
    "東京の音楽 ねこ",
    "🎵🎵 a violin 🎻!",
    "👨‍👩‍👧 👍🏽",
    "\u00a0non\u2003breaking\u200bspaces\ufeff",
    "İstanbul STRASSE ẞ ǅ Σίσυφος",
    "<|startoftext|>the dog<|endoftext|>the cat",
    "<|STARTOFTEXT|> shouted",
    "tabs\x00and\x07controls",
    "unseen ژۀ 한국어 हिन्दी ไทย words",
    "!!!... --- ___ ###",
    "the rain falling " * 40,
    "x" * 300,
]


def learn_merges(text, count):
    """The `count` most frequent merges of a text. Ties are sorted alphabetically, unlike in the library's trainer."""
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    words = [[*word[:-1], word[-1] + "</w>"] for word, _ in splitter.pre_tokenize_str(text.lower())]
    merges = []
    for _ in range(count):
        pairs = Counter(pair for word in words for pair in zip(word, word[1:]))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(" ".join(best))
        for word in words:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def tokenizer(folder):
    """A small vocabulary in CLIP's layout, and the token ids that transformers' CLIPTokenizer produces with it."""
    files, single = folder / "files", folder / "single"
    files.mkdir(parents=True, exist_ok=True)
    single.mkdir(parents=True, exist_ok=True)
    merges = learn_merges(CORPUS, 200)
    # CLIP's order: the 256 bytes, the same as ends of words, the merges, the two special tokens.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + [merge.replace(" ", "") for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    (files / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n")
    (files / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")

    peer = CLIPTokenizer.from_pretrained(files, model_max_length=77)
    peer.backend_tokenizer.save(str(single / "tokenizer.json"))
    again = CLIPTokenizer.from_pretrained(single, model_max_length=77)
    cases = []
    for text in TEXTS:
        ids = peer(text, truncation=True)["input_ids"]
        assert again(text, truncation=True)["input_ids"] == ids
        cases.append({"text": text, "ids": ids})
    expected = {"vocab_size": len(vocab), "bos": peer.bos_token_id, "eos": peer.eos_token_id, "cases": cases}
    expected["short"] = {"max_length": 6, "cases": []}
    for text in TEXTS:
        ids = peer(text, truncation=True, max_length=6)["input_ids"]
        expected["short"]["cases"].append({"text": text, "ids": ids})
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    formats(FIXTURES / "image" / "formats")
    resizes(FIXTURES / "image" / "resize")
    normalized(FIXTURES / "image" / "normalized.json")
    (FIXTURES / "image" / "README.md").write_text(README)
    tokenizer(FIXTURES / "tokenizer")
