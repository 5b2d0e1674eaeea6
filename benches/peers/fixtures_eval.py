"""Creates tests/fixtures/eval: small benchmarks in the published layouts, and their metrics as computed with numpy,
scikit-learn, Pillow and torch.

    python benches/peers/fixtures_eval.py            # writes tests/fixtures/eval
    python benches/peers/fixtures_eval.py --time N   # times N heatmaps at 19 thresholds in numpy

Heatmaps are recipes of whole numbers, from which the Rust tests compute identical f32 values, so nothing large is
stored. Every metric is computed here in the slow and obvious way, one sample and one threshold at a time.
"""

import csv
import json
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn import metrics as sklearn_metrics

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "eval"
SIZE = 224
THRESHOLDS = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
NEGATIVES = ["silence", "noise", "offscreen"]
ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.int64)


# ---- heatmaps -------------------------------------------------------------------------------------------------------

def heatmap(recipe):
    """The f32 heatmap of a recipe: a fraction of two whole numbers at every pixel."""
    kind = recipe["kind"]
    if kind == "flat":
        return np.full((SIZE, SIZE), np.float32(recipe["num"]) / np.float32(recipe["den"]), np.float32)
    if kind == "disc":  # falls from 1 at (x, y) to 0 at the radius
        squared = recipe["r"] ** 2
        rest = squared - (COLUMNS - recipe["x"]) ** 2 - (ROWS - recipe["y"]) ** 2
        return np.maximum(rest, 0).astype(np.float32) / np.float32(squared)
    if kind == "steps":  # twentieths: every value is exactly a threshold
        return ((recipe["a"] * COLUMNS + recipe["b"] * ROWS) % 21).astype(np.float32) / np.float32(20)
    if kind == "box":  # a fraction inside a box, another outside
        x0, y0, x1, y1 = recipe["box"]
        inside = (COLUMNS >= x0) & (COLUMNS < x1) & (ROWS >= y0) & (ROWS < y1)
        return np.where(inside, recipe["inside"], recipe["outside"]).astype(np.float32) / np.float32(20)
    if kind == "noise":
        mixed = (COLUMNS * 374761393 + ROWS * 668265263 + recipe["seed"] * 40503) % 2**32
        mixed = ((mixed ^ (mixed >> 13)) * 1274126177) % 2**32
        return (mixed >> 8).astype(np.float32) / np.float32(2**24)
    raise ValueError(kind)


def flat(num, den=20):
    return {"kind": "flat", "num": num, "den": den}


def disc(x, y, r):
    return {"kind": "disc", "x": x, "y": y, "r": r}


def steps(a, b):
    return {"kind": "steps", "a": a, "b": b}


def box(corners, inside, outside=0):
    return {"kind": "box", "box": corners, "inside": inside, "outside": outside}


def noise(seed):
    return {"kind": "noise", "seed": seed}


# ---- ground truth ---------------------------------------------------------------------------------------------------

def vggss_truths(path):
    truths = {}
    for entry in json.loads(path.read_text()):
        union = np.zeros((SIZE, SIZE))
        for corners in entry["bbox"]:
            x0, y0, x1, y1 = (np.clip(np.array(corners), 0, 1) * SIZE).astype(int)
            union[y0:y1, x0:x1] = 1
        truths[entry["file"]] = (union, entry.get("image", entry["file"]))
    return truths


def flickr_truths(folder):
    truths = {}
    for path in folder.glob("*.xml"):
        votes = np.zeros((SIZE, SIZE))
        for element in ElementTree.parse(path).getroot().iter("bbox"):
            x0, y0, x1, y1 = [int(SIZE * int(child.text) / 256) for child in list(element)[1:]]
            votes[y0:y1, x0:x1] += 1
        name = path.name.split(".")[0]
        truths[name] = (np.minimum(votes / 2, 1), name)
    return truths


def avsbench_truths(folder):
    return {p.stem: (np.array(Image.open(p).convert("1")).astype(float), p.stem) for p in folder.glob("*.png")}


# ---- metrics --------------------------------------------------------------------------------------------------------

def consensus_iou(predicted, truth, extra=0.0):
    inside = (predicted * truth).sum()
    union = truth.sum() + (predicted * (truth == 0)).sum() + extra
    return float(inside / union) if union > 0 else 0.0


def mask_iou(predicted, truth):
    if truth.sum() == 0:
        return float((1 - predicted).sum() / (SIZE * SIZE + 1e-7))
    return float((predicted * truth).sum() / (np.maximum(predicted, truth).sum() + 1e-7))


def success_auc(scores, at_most=False):
    levels = [0.05 * i for i in range(21)]
    rates = [np.mean([s <= l if at_most else s >= l for s in scores]) for l in levels]
    return float(sklearn_metrics.auc(levels, rates))


def adaptive_prediction(values, truth):
    area = int((truth != 0).sum()) or SIZE * SIZE // 2
    return (values > np.sort(values.flatten())[SIZE * SIZE - area]).astype(float)


def precision_recall(pairs, confidence):
    hits = sum(1 for sounding, iou, c in pairs if c >= confidence and sounding and iou >= 0.5)
    alarms = sum(1 for sounding, iou, c in pairs if c >= confidence and not (sounding and iou >= 0.5))
    lost = sum(1 for sounding, iou, c in pairs if c < confidence and sounding)
    return hits / (hits + alarms) if hits + alarms else 1.0, hits / (hits + lost) if hits + lost else 1.0


def average_precision(pairs):
    confidences = np.sort(np.array([c for _, _, c in pairs], dtype=np.float32))
    walked = [precision_recall(pairs, c) for c in confidences[:-1][:: -max(1, len(pairs) // 200)]]
    total = 0.0
    for i in range(len(walked) - 1):
        total += max(p for p, _ in walked[i:]) * (walked[i + 1][1] - walked[i][1])
    return total


def max_f1(pairs):
    confidences = sorted(np.float32(c) for _, _, c in pairs)[:: max(1, len(pairs) // 10)]
    scores = []
    for precision, recall in (precision_recall(pairs, c) for c in confidences):
        f1 = 2 * recall * precision / (recall + precision) if recall + precision > 0 else 0.0
        scores.append(float(f"{f1 * 100:.1f}"))
    return max(scores)


def f_measure(samples):
    """In torch, f32, threshold by threshold; sums are f64, because f32 sums are accurate to only five digits."""
    curves = []
    for sample in samples:
        values, mask = torch.from_numpy(sample["values"]), torch.from_numpy(sample["truth"])
        if mask.sum() == 0:
            continue
        curve = []
        for threshold in torch.linspace(0, 1 - 1e-10, 255):
            predicted = (values >= threshold).double()
            hits = (predicted * mask).sum()
            precision, recall = hits / (predicted.sum() + 1e-20), hits / (mask.sum() + 1e-20)
            f = 1.3 * precision * recall / (0.3 * precision + recall)
            curve.append(0.0 if torch.isnan(f) else float(f))
        curves.append(curve)
    return float(np.max(np.mean(curves, axis=0))) if curves else None


def row(benchmark, samples, scores):
    percent = lambda share: None if share is None else 100 * float(share)
    of_sounding = [score for sample, score in zip(samples, scores) if sample["sounding"]]
    some = bool(of_sounding)
    if benchmark.startswith("avsbench"):
        batches = [np.mean(of_sounding[i : i + 5]) for i in range(0, len(of_sounding), 5)]
        return {"mIoU": percent(np.mean(batches)), "Fmeasure": percent(f_measure(samples))}
    localized = {
        "AUC": percent(success_auc(of_sounding)) if some else None,
        "mIoU": percent(np.mean(of_sounding)) if some else None,
        "cIoU@0.3": percent(np.mean(np.array(of_sounding) >= 0.3)) if some else None,
    }
    if benchmark.endswith("extended"):
        pairs = [(s["sounding"], iou, np.float32(s["confidence"])) for s, iou in zip(samples, scores)]
        located = percent(np.mean(np.array(of_sounding) > 0.5)) if some else None
        return {"AP": percent(average_precision(pairs)), "maxF1": max_f1(pairs), "LocAcc": located, **localized}
    return {"cIoU": percent(np.mean(np.array(of_sounding) >= 0.5)), **localized, **scene_row(samples, scores)}


def scene_row(samples, scores):
    scenes = [scores_of for scores_of in group(samples, scores).values() if len(scores_of) > 1]
    if not scenes:
        return {}
    means, worst = [np.mean(s) for s in scenes], [np.min(s) for s in scenes]
    return {
        "scene cIoU@0.3": 100 * np.mean(np.array(means) >= 0.3),
        "scene IoU@0.5": 100 * np.mean(np.array(means) >= 0.5),
        "IIoU": 100 * np.mean(np.array(worst) >= 0.5),
        "IAUC": 100 * success_auc(worst),
    }


def group(samples, values):
    groups = {}
    for sample, value in zip(samples, values):
        groups.setdefault(sample["picture"], []).append(value)
    return groups


def scores_at(benchmark, samples, threshold):
    if benchmark.startswith("avsbench"):
        return [mask_iou((s["values"] > threshold).astype(float), s["truth"]) for s in samples]
    extra = 1e-12 if benchmark.endswith("extended") else 0.0
    return [consensus_iou((s["values"] >= threshold).astype(float), s["truth"], extra) for s in samples]


def universal_threshold(samples):
    peaks = [s["negatives"][kind].max() for s in samples for kind in s["negatives"]]
    threshold = round(float(np.percentile(np.array(peaks, dtype=np.float64), 75)), 3)
    cious = [consensus_iou((s["values"] >= threshold).astype(float), s["truth"]) for s in samples]
    kinds = {}
    for kind in NEGATIVES:
        active = [np.mean(s["negatives"][kind] > threshold) for s in samples if kind in s["negatives"]]
        if active:
            kinds[kind] = {"samples": len(active), "pIA": 100 * np.mean(active), "AUC_N": 100 * success_auc(active, True)}
    mean_iou, auc = 100 * np.mean(cious), 100 * success_auc(cious)
    quiet, quiet_auc = np.mean([100 - k["pIA"] for k in kinds.values()]), np.mean([k["AUC_N"] for k in kinds.values()])
    return {
        "threshold": threshold,
        "cIoU": 100 * np.mean(np.array(cious) >= 0.5),
        "mIoU": mean_iou,
        "AUC": auc,
        "negatives": kinds,
        "F_LOC": 2 * mean_iou * quiet / (mean_iou + quiet),
        "F_AUC": 2 * auc * quiet_auc / (auc + quiet_auc),
    }


def expected(case):
    """The report of a case, without the parts that only Rust computes (baselines, published numbers)."""
    benchmark = case["benchmark"]
    annotations = FIXTURES / case["annotations"]
    read = {"v": vggss_truths, "f": flickr_truths, "a": avsbench_truths}[benchmark[0]]
    truths = read(annotations)
    if "split" in case:
        with open(FIXTURES / case["split"]) as file:
            wanted = {line[0] for line in csv.reader(file)}
        truths = {name: truth for name, truth in truths.items() if name in wanted}
    asked = [(name, truths[name][0], truths[name][1], True) for name in sorted(truths)]
    if "silent" in case:
        with open(FIXTURES / case["silent"]) as file:
            videos = sorted(line["video"] for line in csv.DictReader(file))
        asked += [(name, np.zeros((SIZE, SIZE)), name, False) for name in videos]
    said = {prediction["id"]: prediction for prediction in case["predictions"]}
    samples, missing = [], []
    for name, truth, picture, sounding in asked:
        if name not in said:
            missing.append(name)
            continue
        prediction = said[name]
        samples.append({
            "truth": truth,
            "picture": picture,
            "sounding": sounding,
            "values": heatmap(prediction["heatmap"]),
            "confidence": prediction.get("confidence"),
            "negatives": {k: heatmap(prediction[k]) for k in NEGATIVES if k in prediction},
        })
    rows = {f"{t:.2f}": row(benchmark, samples, scores_at(benchmark, samples, t)) for t in THRESHOLDS}
    principal = next(iter(rows["0.05"]))
    best = max(rows, key=lambda t: rows[t][principal])
    adaptive = [adaptive_prediction(s["values"], s["truth"]) for s in samples]
    if benchmark.startswith("avsbench"):
        adaptive = [mask_iou(p, s["truth"]) for p, s in zip(adaptive, samples)]
    else:
        extra = 1e-12 if benchmark.endswith("extended") else 0.0
        adaptive = [consensus_iou(p, s["truth"], extra) for p, s in zip(adaptive, samples)]
    sounding = [s for s in samples if s["sounding"]]
    peaks = [s["truth"].flatten()[np.argmax(s["values"])] > 0 for s in sounding]
    report = {
        "benchmark": benchmark,
        "samples": len(samples),
        "missing": len(missing),
        "missing_ids": missing,
        "thresholds": rows,
        "best": {"threshold": float(best), **rows[best]},
        "adaptive_oracle": row(benchmark, samples, adaptive),
        "pointing": 100 * np.mean(peaks) if peaks else None,
    }
    if "threshold" in case:
        fixed = row(benchmark, samples, scores_at(benchmark, samples, case["threshold"]))
        report["fixed"] = {"threshold": case["threshold"], **fixed}
    if any(s["negatives"] for s in samples):
        report["universal_threshold"] = universal_threshold(samples)
    scenes = {p: v for p, v in group(samples, samples).items() if len(v) > 1}
    if scenes and not benchmark.endswith("extended"):
        ap = lambda s: sklearn_metrics.average_precision_score(s["truth"].flatten() > 0, s["values"].flatten())
        caps = [np.mean([ap(source) for source in scene]) for scene in scenes.values()]
        report["pairs"] = {"scenes": len(scenes), "CAP": 100 * np.mean(caps)}
    return report


# ---- the cases ------------------------------------------------------------------------------------------------------

def write_annotations():
    huge = -2.9e16
    entries = [
        {"file": "union", "class": "dog barking", "bbox": [[0.1, 0.1, 0.5, 0.5], [0.3, 0.3, 0.7, 0.8]]},
        {"file": "accent-é", "class": "a \"quoted\" <class> & more", "bbox": [[0.25, 0.0, 0.75, 1.0]]},
        {"file": "degenerate", "class": "playing tambourine", "bbox": [[huge, huge, huge, huge]]},
        {"file": "partly", "class": "tap dancing", "bbox": [[huge, 0.2, 0.6, 0.7], [0.8, 0.8, 0.2, 0.9], [0.9, 0.5, 1.7, 0.6]]},
        {"file": "flattened", "class": "playing tambourine", "bbox": [[0.26875, 1.0, 0.753125, 1.0]]},
        {"file": "half", "class": "airplane", "bbox": [[0.0, 0.0, 0.5, 0.5]]},
        {"file": "nothing", "class": "elk bugling", "bbox": [[0.4, 0.25, 0.6, 0.75]]},
        {"file": "noise", "class": "skidding", "bbox": [[0.0, 0.0, 1.0, 1.0]]},
        {"file": "steps", "class": "skidding", "bbox": [[0.2, 0.2, 0.9, 0.6]]},
        {"file": "lost", "class": "cow lowing", "bbox": [[0.4, 0.25, 0.6, 0.75]]},
    ]
    (FIXTURES / "vggss.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False))
    scenes = [
        {"file": "duet_1_cat", "class": "cat", "image": "duet_1", "bbox": [[0.0, 0.0, 0.4, 0.9]]},
        {"file": "duet_1_dog", "class": "dog", "image": "duet_1", "bbox": [[0.5, 0.2, 1.0, 1.0]]},
        {"file": "duet_2_oboe", "class": "oboe", "image": "duet_2", "bbox": [[0.1, 0.1, 0.5, 0.6]]},
        {"file": "duet_2_harp", "class": "harp", "image": "duet_2", "bbox": [[0.5, 0.5, 0.9, 0.9]]},
        {"file": "torn_car", "class": "car", "image": "torn", "bbox": [[0.5, 0.5, 0.9, 0.9]]},
        {"file": "torn_bus", "class": "bus", "image": "torn", "bbox": [[0.1, 0.5, 0.4, 0.9]]},
        {"file": "solo", "class": "owl", "bbox": [[0.3, 0.3, 0.6, 0.6]]},
    ]
    (FIXTURES / "scenes.json").write_text(json.dumps(scenes, indent=1))
    extended = [{"file": f"e{i:02}", "class": "bird", "bbox": [[0.0, 0.0, 0.25, 0.25]]} for i in range(17)]
    (FIXTURES / "extended.json").write_text(json.dumps(extended, indent=1))
    silent = "".join(f"s{i:02},s{i:02},non-sounding\n" for i in range(9))
    (FIXTURES / "silent.csv").write_text("video,audio,label\n" + silent)
    (FIXTURES / "split.csv").write_text('union,dog barking\nhalf,airplane\n"steps",skidding\n')

    flickr = FIXTURES / "flickr"
    flickr.mkdir(exist_ok=True)
    bboxes = {
        "10001": [(10, 20, 150, 200), (30, 10, 160, 210), (100, 100, 256, 256)],
        "10002": [(0, 0, 128, 128)],
        "10003": [(-30, 10, 120, 100), (5, 5, 60, 300)],
        "10004": [(40, 40, 200, 200), (40, 40, 200, 200), (40, 40, 200, 200)],
    }
    for name, corners in bboxes.items():
        boxes = "".join(
            f"<bbox><id>{i}</id><xmin>{x0}</xmin><ymin> {y0} </ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bbox>"
            for i, (x0, y0, x1, y1) in enumerate(corners)
        )
        (flickr / f"{name}.xml").write_text(f'<?xml version="1.0"?>\n<annotations><sounds>{boxes}</sounds></annotations>\n')

    masks = FIXTURES / "masks"
    masks.mkdir(exist_ok=True)
    circle = ((COLUMNS - 100) ** 2 + (ROWS - 120) ** 2 < 60**2) * 255
    pictures = {
        "clip_0_1": circle,
        "clip_0_2": np.zeros((SIZE, SIZE)),
        "clip_0_3": ((COLUMNS > 50) & (ROWS > 150)) * 255,
        "clip_0_4": circle,
        "clip_0_5": np.full((SIZE, SIZE), 255),
        "clip_1_1": (COLUMNS + ROWS) * 255 // 446,
    }
    for name, pixels in pictures.items():
        Image.fromarray(pixels.astype(np.uint8)).save(masks / f"{name}.png", optimize=True)
    Image.fromarray(circle.astype(np.uint8)).convert("1").save(masks / "clip_1_2.png", optimize=True)
    color = np.stack([(COLUMNS // 32) * 36, (ROWS // 32) * 36, circle], -1).astype(np.uint8)
    Image.fromarray(color).save(masks / "clip_1_3.png", optimize=True)
    Image.fromarray(color).quantize(16).save(masks / "clip_1_4.png", optimize=True)


def cases():
    said = lambda name, recipe, **more: {"id": name, "heatmap": recipe, **more}
    main = [
        said("union", disc(90, 90, 90)),
        said("accent-é", flat(10)),
        said("degenerate", disc(10, 10, 30)),
        said("partly", box([0, 40, 140, 160], 14, 3)),
        said("flattened", flat(0)),
        said("half", box([0, 0, 112, 56], 7)),  # a cIoU of exactly one half
        said("nothing", flat(0)),
        said("noise", noise(3)),
        said("steps", steps(1, 3)),
    ]
    yield {"name": "vggss", "benchmark": "vggss", "annotations": "vggss.json", "predictions": main, "threshold": 0.35}
    yield {
        "name": "split", "benchmark": "vggss", "annotations": "vggss.json", "split": "split.csv", "predictions": main,
        "threshold": 0.123,
    }
    yield {"name": "one", "benchmark": "vggss", "annotations": "vggss.json", "predictions": [said("union", steps(2, 5))]}
    yield {
        "name": "scenes", "benchmark": "vggss", "annotations": "scenes.json",
        "predictions": [
            said("duet_1_cat", disc(40, 100, 120)),
            said("duet_1_dog", box([100, 40, 224, 224], 12, 4)),
            said("duet_2_oboe", steps(1, 1)),
            said("duet_2_harp", disc(150, 160, 70)),
            said("torn_car", disc(150, 160, 70)),
            said("solo", flat(6)),
        ],
    }
    negatives = [
        said("union", disc(90, 90, 110), silence=flat(1, 8), noise=box([9, 9, 70, 99], 8), offscreen=box([0, 0, 224, 90], 10)),
        said("half", disc(50, 50, 100), silence=flat(2, 8), noise=box([0, 0, 99, 70], 12), offscreen=box([0, 0, 90, 90], 9)),
        said("steps", disc(120, 90, 130), silence=flat(0), offscreen=box([50, 0, 200, 200], 13)),
        said("noise", flat(19)),
    ]
    yield {"name": "negatives", "benchmark": "vggss", "annotations": "vggss.json", "predictions": negatives}
    yield {
        "name": "flickr", "benchmark": "flickr", "annotations": "flickr", "threshold": 0.7,
        "predictions": [
            said("10001", disc(80, 100, 100)),
            said("10002", box([0, 0, 112, 112], 14)),
            said("10003", steps(4, 1)),
            said("10004", noise(9)),
        ],
    }
    # Overlaps from full to none (one exactly a half), confidences with ties between right, wrong and silent.
    extended = [
        said(f"e{i:02}", box([0, 0, 28 + 3 * i, 56], 2 + i, 1), confidence=[0.1, 0.35, 0.35, 0.7, 0.9, 0.35][i % 6])
        for i in range(17)
    ]
    silent = [said(f"s{i:02}", disc(20 * i, 100, 50), confidence=[0.35, 0.05, 0.8, 0.1][i % 4]) for i in range(8)]
    extended_case = {"benchmark": "vggss-extended", "annotations": "extended.json", "silent": "silent.csv"}
    yield {"name": "extended", **extended_case, "predictions": extended + silent}
    yield {"name": "all-silent", **extended_case, "predictions": silent}
    yield {"name": "one-silent", **extended_case, "predictions": silent[:1]}
    yield {
        "name": "flickr-extended", "benchmark": "flickr-extended", "annotations": "flickr", "silent": "silent.csv",
        "predictions": [said(f"1000{i}", disc(90, 100, 60 + 30 * i), confidence=0.2 * i) for i in range(1, 5)] + silent,
    }
    frames = [
        said("clip_0_1", disc(100, 120, 80)),
        said("clip_0_2", steps(1, 2)),
        said("clip_0_3", box([50, 150, 224, 224], 20, 1)),
        said("clip_0_4", noise(4)),
        said("clip_0_5", flat(13)),
        said("clip_1_1", disc(224, 224, 200)),
        said("clip_1_2", steps(5, 3)),
        said("clip_1_3", disc(100, 100, 90)),
        said("clip_1_4", flat(0)),
    ]
    yield {"name": "avsbench", "benchmark": "avsbench-s4", "annotations": "masks", "predictions": frames, "threshold": 0.65}
    yield {"name": "empty-mask", "benchmark": "avsbench-ms3", "annotations": "masks", "predictions": frames[1:2]}


def many_pairs(count):
    """Enough detections, with ties, for the walk to take steps longer than one."""
    random = np.random.default_rng(7)
    sounding = random.random(count) < 0.6
    cious = np.round(random.random(count), 2)
    confidences = np.round(random.random(count) * 0.7 + 0.3 * (sounding & (cious >= 0.5)), 2).astype(np.float32)
    pairs = [(bool(s), float(i), c) for s, i, c in zip(sounding, cious, confidences)]
    located = np.mean([i > 0.5 for s, i, _ in pairs if s])
    return {
        "pairs": [[s, i, float(str(c))] for s, i, c in pairs],
        "AP": average_precision(pairs), "maxF1": max_f1(pairs), "LocAcc": float(located),
    }


def write_fixtures():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    write_annotations()
    made = [{**case, "expected": expected(case)} for case in cases()]
    masks = {p.stem: int(np.array(Image.open(p).convert("1")).sum()) for p in sorted((FIXTURES / "masks").glob("*.png"))}
    # A tie when rounding to one decimal: F1 = 5/16 = 31.25 %.
    tie = [(True, 1.0, np.float32(0.9))] * 5 + [(True, 0.0, np.float32(0.5))] * 11 + [(False, 0.0, np.float32(0.9))] * 11
    rounding = {"pairs": [[s, i, float(str(c))] for s, i, c in tie], "AP": average_precision(tie), "maxF1": max_f1(tie),
                "LocAcc": 5 / 16}
    detections = {"many": many_pairs(1033), "few": many_pairs(57), "rounding": rounding}
    document = {"cases": made, "white_pixels": masks, "detections": detections}
    (FIXTURES / "cases.json").write_text(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")


def measure(count):
    """cIoU of `count` heatmaps at 19 thresholds, as the published evaluators compute it, in numpy."""
    truth = np.zeros((SIZE, SIZE))
    truth[40:150, 60:190] = 1
    values = [heatmap(noise(seed)) for seed in range(16)]
    start = time.perf_counter()
    for sample in range(count):
        for threshold in THRESHOLDS:
            predicted = np.zeros((SIZE, SIZE))
            predicted[values[sample % 16] >= threshold] = 1
            np.sum(predicted * truth) / (np.sum(truth) + np.sum(predicted * (truth == 0)))
    print(f"numpy {np.__version__}: {count} heatmaps at {len(THRESHOLDS)} thresholds in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--time"]:
        measure(int(sys.argv[2]))
    else:
        write_fixtures()
