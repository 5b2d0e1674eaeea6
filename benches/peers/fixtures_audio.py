#!/usr/bin/env python3
"""Creates tests/fixtures/audio: sound files in every format, recordings, and what torchaudio computes from them.

    apt-get install ffmpeg tuxpaint-stamps-default
    python3 -m venv .venv && .venv/bin/pip install torch==2.11.0 torchaudio==2.11.0 numpy soundfile safetensors
    .venv/bin/python benches/peers/fixtures_audio.py

Encoders run in bit-exact mode, but their output may differ between versions of ffmpeg. The tests compare with the
signal (`signal` below and in tests/audio.rs), not with the files.
"""
import pathlib
import subprocess

import numpy as np
import soundfile as sf
import torch
import torchaudio
from safetensors.torch import save_file
from torchaudio.compliance import kaldi

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/audio"
STAMPS = pathlib.Path("/usr/share/tuxpaint/stamps")
MEAN, STD = 15.41663, 6.55582


def signal(seconds, rate, channels):
    """Channel c: 0.4 sin(2 pi 300 (c + 1) t) + 0.1 (1 - 2 t / seconds), a tone on a slope: [frames, channels]."""
    n = round(seconds * rate)
    t = np.arange(n)[:, None] / rate
    f = 300.0 * (np.arange(channels)[None, :] + 1)
    return 0.4 * np.sin(2 * np.pi * f * t) + 0.1 * (1 - 2 * t / seconds)


def encode(name, seconds, rate, channels, *arguments, inputs=(), pipe=False):
    """Writes `name` with ffmpeg from the signal as 64-bit floats."""
    raw = signal(seconds, rate, channels).astype("<f8").tobytes()
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-f", "f64le", "-ar", str(rate), "-ac", str(channels), "-i", "pipe:0"]
    command += [*inputs, "-bitexact", "-map_metadata", "-1", *arguments, "-" if pipe else str(OUT / name)]
    made = subprocess.run(command, input=raw, check=True, stdout=subprocess.PIPE if pipe else None)
    if pipe:
        (OUT / name).write_bytes(made.stdout)


def formats():
    """The decoding matrix: name, seconds, rate and channels as in the table of tests/audio.rs."""
    wav = lambda codec: ("-c:a", codec, "-f", "wav")
    encode("u8.wav", 0.2, 8000, 1, *wav("pcm_u8"))
    encode("s16.wav", 0.1, 44100, 2, *wav("pcm_s16le"))
    encode("s24.wav", 0.1, 48000, 1, *wav("pcm_s24le"))
    encode("s24_six.wav", 0.05, 32000, 6, *wav("pcm_s24le"))  # WAVE_FORMAT_EXTENSIBLE
    encode("s32_odd_rate.wav", 0.1, 12345, 1, *wav("pcm_s32le"))
    encode("f32.wav", 0.1, 16000, 2, *wav("pcm_f32le"))
    encode("f64.wav", 0.1, 11025, 1, *wav("pcm_f64le"))
    encode("alaw.wav", 0.2, 8000, 1, *wav("pcm_alaw"))
    encode("mulaw.wav", 0.2, 8000, 2, *wav("pcm_mulaw"))
    encode("adpcm.wav", 0.2, 22050, 2, *wav("adpcm_ms"))
    encode("pipe.wav", 0.1, 16000, 1, *wav("pcm_s16le"), pipe=True)  # lengths of 2^32 - 1: unknown
    encode("s16.aiff", 0.1, 16000, 1, "-c:a", "pcm_s16be")
    encode("s16.caf", 0.1, 16000, 1, "-c:a", "pcm_s16le")
    encode("s16.flac", 0.3, 44100, 2, "-c:a", "flac", "-sample_fmt", "s16")
    encode("s24.flac", 0.1, 96000, 1, "-c:a", "flac", "-sample_fmt", "s32")
    encode("vorbis.ogg", 0.5, 44100, 2, "-c:a", "libvorbis", "-q:a", "5")
    encode("opus.ogg", 0.1, 48000, 1, "-c:a", "libopus", "-b:a", "16k")  # a codec that is not supported
    encode("vorbis.mka", 0.5, 22050, 1, "-c:a", "libvorbis", "-q:a", "5")
    encode("cbr.mp3", 0.5, 44100, 2, "-c:a", "libmp3lame", "-b:a", "128k")
    encode("vbr.mp3", 0.5, 22050, 1, "-c:a", "libmp3lame", "-q:a", "2", "-metadata", "title=t", "-write_id3v1", "1")
    encode("no_header.mp3", 0.5, 44100, 1, "-c:a", "libmp3lame", "-q:a", "4", "-write_xing", "0", "-id3v2_version", "0")
    encode("aac.m4a", 0.5, 44100, 2, "-c:a", "aac", "-b:a", "96k")
    encode("alac.m4a", 0.2, 44100, 2, "-c:a", "alac")
    encode("adts.aac", 0.5, 48000, 1, "-c:a", "aac", "-b:a", "64k")
    video = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=0.5")
    encode("video.mp4", 0.5, 48000, 2, "-c:v", "mpeg4", "-q:v", "31", "-c:a", "aac", "-b:a", "96k", "-shortest", inputs=video)
    encode("fast.mp4", 0.5, 48000, 2, "-c:v", "mpeg4", "-q:v", "31", "-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart", "-shortest", inputs=video)
    silent = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", *video, "-bitexact", "-c:v", "mpeg4", "-q:v", "31", str(OUT / "mute.mp4")]
    subprocess.run(silent, check=True)
    # Three seconds each, to cut windows from.
    for name, arguments in {
        "long.wav": ("-c:a", "pcm_s16le"), "long.flac": ("-c:a", "flac", "-sample_fmt", "s16"),
        "long.ogg": ("-c:a", "libvorbis", "-q:a", "1"), "long.mp3": ("-c:a", "libmp3lame", "-b:a", "24k"),
        "long_no_header.mp3": ("-c:a", "libmp3lame", "-b:a", "24k", "-write_xing", "0", "-id3v2_version", "0"),
        "long.m4a": ("-c:a", "aac", "-b:a", "32k"), "long.aac": ("-c:a", "aac", "-b:a", "32k"),
        "long.mka": ("-c:a", "libvorbis", "-q:a", "1"), "long_adpcm.wav": ("-c:a", "adpcm_ima_wav"),
    }.items():
        encode(name, 3.0, 16000, 1, *arguments)


def fbank(wave, **options):
    """torchaudio's filterbank of samples in [-1, 1] with BEATs' settings, or others."""
    options = dict(num_mel_bins=128, sample_frequency=16000, frame_length=25, frame_shift=10) | options
    return kaldi.fbank((wave * 2**15)[None], **options).contiguous()


def excerpt(stamp, start, seconds):
    """Seconds of a recording at 16 kHz, mono, rounded to 16 bit."""
    samples, rate = sf.read(STAMPS / stamp, dtype="float32", always_2d=True)
    wave = torchaudio.functional.resample(torch.from_numpy(samples.mean(1)), rate, 16000)
    wave = wave[round(start * 16000):round((start + seconds) * 16000)]
    return (wave * 2**15).round().clamp(-(2**15), 2**15 - 1).to(torch.int16)


def recordings():
    """Excerpts as WAV, and their filterbanks computed in f32 and in f64."""
    tensors = {}
    for name, stamp, start, seconds in [
        ("crow", "animals/birds/crow.ogg", 0.2, 1.0),
        ("cello", "hobbies/music/string/cello.ogg", 1.0, 1.0),
        ("horse", "animals/horse.ogg", 0.5, 1.0),
    ]:
        found = sorted(STAMPS.glob("**/" + stamp.rsplit("/", 1)[1]))
        pcm = excerpt(found[0].relative_to(STAMPS), start, seconds)
        sf.write(OUT / f"{name}.wav", pcm.numpy(), 16000, subtype="PCM_16")
        wave = pcm.float() / 2**15
        tensors[name] = fbank(wave)
        tensors[name + ".f64"] = fbank(wave.double()).float()  # without the rounding of an f32 FFT
        if name == "horse":
            # Change every setting from its default, to test that each has an effect.
            for key, options in {
                "no_snip": dict(snip_edges=False), "no_dc": dict(remove_dc_offset=False), "no_emphasis": dict(preemphasis_coefficient=0.0),
                "hanning": dict(window_type="hanning"), "hamming": dict(window_type="hamming"), "blackman": dict(window_type="blackman"),
                "rectangular": dict(window_type="rectangular"), "no_rounding": dict(round_to_power_of_two=False),
                "magnitude": dict(use_power=False), "linear": dict(use_log_fbank=False), "kaldi": dict(num_mel_bins=23),
                "band": dict(low_freq=100.0, high_freq=-500.0), "long": dict(frame_length=40, frame_shift=15.5),
            }.items():
                tensors["options." + key] = fbank(wave[4000:8000], **options)
    tensors["silence"] = fbank(torch.zeros(1600))
    tensors["constant"] = fbank(torch.full((1600,), 0.25))
    # A 44.1 kHz stereo recording as it is, its resampling, and the normalised filterbank of that.
    name = "Washing-machine.ogg"
    original = sorted(STAMPS.glob("**/" + name))[0]
    (OUT / "washing_machine.ogg").write_bytes(original.read_bytes())
    samples, rate = sf.read(original, dtype="float32", always_2d=True)
    mono = torch.from_numpy(samples.mean(1))
    wave = torchaudio.functional.resample(mono, rate, 16000)
    tensors["resampled"] = wave
    tensors["resampled.fbank"] = ((fbank(wave) - MEAN) / (2 * STD)).contiguous()
    # torchaudio's resampler over rates, of noise (every frequency): input, and the output at 16 kHz.
    noise = torch.randn(2000, generator=torch.Generator().manual_seed(0)) * 0.1
    tensors["noise"] = noise
    for rate in (8000, 11025, 12345, 22050, 24000, 32000, 44100, 48000, 96000):
        tensors[f"noise.{rate}"] = torchaudio.functional.resample(noise, rate, 16000).contiguous()
    save_file(tensors, OUT / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    formats()
    recordings()
    print(sum(f.stat().st_size for f in OUT.iterdir()), "bytes in", OUT)
