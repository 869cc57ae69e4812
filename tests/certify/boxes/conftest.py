"""Random toy detectors, an evaluator written independently of the package, and attacks on the outputs themselves."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from onelip.models.decoding import clip, decode

SIZE = (64, 64)


def plain_iou(a, b):
    """IoU of two boxes, as lists of four numbers."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    inter = w * h
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def plain_nms(boxes, scores, labels, limit):
    """Greedy class-wise suppression by a plain loop: indices kept, by falling score."""
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(labels[j] != labels[i] or plain_iou(boxes[i], boxes[j]) <= limit for j in kept):
            kept.append(i)
    return kept


def final(z, r, points, strides, theta, limit, size=SIZE):
    """Detections (box, logit, label) of one image, by falling logit."""
    places, labels = (z > theta).nonzero(as_tuple=True)
    boxes = clip(decode(points, strides, r), size)[places].tolist()
    scores = z[places, labels].tolist()
    kept = plain_nms(boxes, scores, labels.tolist(), limit)
    return [(boxes[i], scores[i], int(labels[i])) for i in kept]


def matched(found, boxes, labels, iou):
    """For each detection whether it is right: COCO's greedy matching."""
    free, right = list(range(len(labels))), []
    for box, _, label in found:
        best = max(((plain_iou(box, boxes[g]), -g) for g in free if labels[g] == label), default=(0.0, 0))
        right.append(best[0] >= iou)
        if right[-1]:
            free.remove(-best[1])
    return right


def rates(batch, targets, theta, limit, iou=0.5):
    """Pooled recall and precision of [(z, r)] at a threshold; and false detections of each image."""
    hits = reported = objects = 0
    alarms = []
    for (z, r, points, strides), target in zip(batch, targets, strict=True):
        found = final(z, r, points, strides, theta, limit)
        right = matched(found, target["boxes"].tolist(), target["labels"].tolist(), iou)
        hits, reported, objects = hits + sum(right), reported + len(found), objects + len(target["labels"])
        alarms.append(len(found) - sum(right))
    return hits / objects, hits / reported if reported else math.nan, alarms


def average_precision(batch, targets, theta, limit, k, iou=0.5):
    """All-point and 101-point average precision of class k for detections above theta, pooled over images."""
    rows, objects = [], 0
    for index, ((z, r, points, strides), target) in enumerate(zip(batch, targets, strict=True)):
        mine = target["labels"] == k
        objects += int(mine.sum())
        found = [d for d in final(z, r, points, strides, theta, limit) if d[2] == k]
        right = matched(found, target["boxes"][mine].tolist(), [k] * int(mine.sum()), iou)
        rows += [(-d[1], index, hit) for d, hit in zip(found, right, strict=True)]
    hits, points_ = 0, []
    for n, (_, _, hit) in enumerate(sorted(rows), 1):
        hits += hit
        points_.append((hits / objects, hits / n))
    voc = before = 0.0
    for recall in sorted({p[0] for p in points_}):
        voc += (recall - before) * max(p[1] for p in points_ if p[0] >= recall)
        before = recall
    grid = [i / 100 for i in range(101)]
    coco = sum(max((p[1] for p in points_ if p[0] >= g), default=0.0) for g in grid) / 101
    return voc, coco


def world(seed, *, images=6, classes=1, noise=0.03, overlapping=False, kappa=0.5, parts=None):
    """Images with 0 to 2 objects and 10 to 30 locations near and off them; logits between -1 and 1.

    With parts, constants of logits and boxes, every other location has stride 8.
    """
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    batch, targets = [], []
    for index in range(images):
        count = int(rand(1) * 3) if index else 1
        corner = rand(count, 2, low=2, high=22)
        if not overlapping:
            corner = corner + torch.tensor([[0.0, 0.0], [30.0, 30.0]], dtype=torch.float64)[:count]
        boxes = torch.cat([corner, corner + rand(count, 2, low=8, high=26 if overlapping else 9 + 3)], 1)
        labels = (rand(count) * classes).long()
        near = int(rand(1, low=3, high=7)) * count
        far = int(rand(1, low=6, high=12))
        owner = torch.arange(near) % max(count, 1)
        inside = boxes[owner, :2] + rand(near, 2, low=0.2, high=0.8) * (boxes[owner, 2:] - boxes[owner, :2])
        points = torch.cat([inside, rand(far, 2, low=2, high=62)])
        strides = torch.full((near + far,), 4.0, dtype=torch.float64)
        sides = torch.cat([inside - boxes[owner, :2], boxes[owner, 2:] - inside], 1) / 4
        spread = torch.where(rand(near, 1) < 0.3, 3 * noise + 0.1, noise)  # some boxes are bad: rivals
        sides = (
            sides * (1 + spread * torch.randn(near, 4, generator=generator, dtype=torch.float64))
        ).clamp_min(0)
        r = torch.cat([sides, rand(far, 4, low=0.5, high=2.5)])
        z = rand(near + far, classes, low=-1.0, high=0.3)
        z[torch.arange(near), labels[owner]] = rand(near, low=-0.5, high=1.0)
        if parts:
            strides[::2] = 8.0
            r[::2] /= 2
        batch.append((z, r, points, strides))
        targets.append({"boxes": boxes, "labels": labels})
    return SimpleNamespace(
        batch=batch, targets=targets, classes=classes, kappa=kappa, noise=noise, parts=parts
    )


def padded(toy):
    """Heads of all images with as many locations: those that are missing are far below every threshold."""
    from onelip.models.detection import Raw

    raws = []
    for z, r, points, strides in toy.batch:
        raws.append(Raw(z[None], r[None], points, strides))
    return raws


def attacked(toy, rho, mode, seed, theta, limit):
    """Outputs at a distance of at most rho from the clean ones in every image; see MODES."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for heads, target in zip(toy.batch, toy.targets, strict=True):
        z, r, points, strides = heads
        boxes = clip(decode(points, strides, r), SIZE).tolist()
        aim, most = torch.ones_like(strides, dtype=torch.bool), rho
        if toy.parts:  # often one level alone, in its own smaller ball
            logits = toy.parts["logits"]
            most = rho * logits.joint
            if torch.rand((), generator=generator) < 0.7:
                stride, constant = list(logits.levels.items())[int(torch.rand((), generator=generator) * 2)]
                aim, most = strides == stride, rho * constant
        masked = torch.where(aim[:, None], z, -1e3)
        plan = MODES[mode](masked, r, boxes, target, most, theta, limit, generator)
        moves = [(torch.zeros_like(x) + move) * aim[:, None] for x, move in zip((z, r), plan, strict=True)]
        for move, part in zip(moves, (toy.parts or {}).values(), strict=False):
            for rows, constant in [(aim, part.joint), *((strides == s, c) for s, c in part.levels.items())]:
                move[rows] *= min(1.0, rho * constant / max(float(move[rows].norm()), 1e-300))
        norm = math.hypot(*(float(move.norm()) for move in moves))
        dz, dt = (move * min(1.0, rho / max(norm, 1e-300)) for move in moves)
        found.append((z + dz, (r + toy.kappa * dt).clamp_min(0), points, strides))
    return found


def at_random(z, r, boxes, target, rho, theta, limit, generator):
    """Every output moves a little."""
    return [1e3 * torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (z, r)]


def spawn(z, r, boxes, target, rho, theta, limit, generator):
    """The cheapest logits below the threshold cross it."""
    dz, left = torch.zeros_like(z), rho**2
    gaps = theta - z
    for j in torch.where(gaps >= 0, gaps, math.inf).flatten().argsort().tolist():
        cost = float(gaps.flatten()[j] + 1e-9) ** 2
        if float(gaps.flatten()[j]) < 0 or cost > left:
            break
        dz.view(-1)[j] = gaps.flatten()[j] + 1e-9
        left -= cost
    return dz, 0.0


def vanish(z, r, boxes, target, rho, theta, limit, generator):
    """All candidates that match the object that is cheapest to take down."""
    plans = [torch.zeros_like(z)]
    for g, k in enumerate(target["labels"].tolist()):
        good = torch.tensor([plain_iou(b, target["boxes"][g].tolist()) >= 0.5 for b in boxes])
        plan = torch.zeros_like(z)
        plan[:, k] = -(z[:, k] - theta).clamp_min(0) * good
        plans.append(plan)
    return min(plans[1:] or plans, key=lambda plan: float(plan.norm())), 0.0


def shift(z, r, boxes, target, rho, theta, limit, generator):
    """All boxes of one object shrink, or go one way."""
    dt = torch.zeros_like(r)
    if len(target["labels"]):
        g = int(torch.randint(len(target["labels"]), (), generator=generator))
        near = torch.tensor([plain_iou(b, target["boxes"][g].tolist()) > 0.3 for b in boxes])
        way = torch.randn(4, generator=generator, dtype=torch.float64).sign()
        dt[near] = 1e3 * (way if torch.rand((), generator=generator) < 0.5 else -torch.ones_like(way))
    return 0.0, dt


def rival(z, r, boxes, target, rho, theta, limit, generator):
    """A bad box that overlaps good ones is lifted above them, and the rest of them is taken down."""
    dz = torch.zeros_like(z)
    for g, k in enumerate(target["labels"].tolist()):
        own = [plain_iou(b, target["boxes"][g].tolist()) for b in boxes]
        good = [i for i in range(len(z)) if own[i] >= 0.5 and z[i, k] > theta]
        plans = []
        for j in [j for j in range(len(z)) if own[j] < 0.5]:
            hit = [i for i in good if plain_iou(boxes[i], boxes[j]) > limit]
            if hit:
                plan = torch.zeros_like(dz)
                plan[j, k] = (max(float(z[i, k]) for i in hit) + 1e-9 - z[j, k]).clamp_min(0)
                rest = [i for i in good if i not in hit]
                plan[rest, k] = theta - z[rest, k]
                plans.append(plan)
        best = min(plans, key=lambda plan: float(plan.norm()), default=dz)
        dz = dz + best if float((dz + best).norm()) <= rho else dz
    return dz, 0.0


MODES = {"random": at_random, "spawn": spawn, "vanish": vanish, "shift": shift, "rival": rival}


@pytest.fixture(scope="session")
def toys():
    """The functions of this file."""
    return SimpleNamespace(
        iou=plain_iou, nms=plain_nms, final=final, matched=matched, rates=rates, world=world, padded=padded,
        average_precision=average_precision, attacked=attacked, MODES=MODES, SIZE=SIZE,
    )  # fmt: skip
