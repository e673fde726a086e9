"""Pictures of config, model, image, backbone and anchors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lucidet.inspection.event import Event, whole
from lucidet.inspection.page.page_data import PageData
from lucidet.pages.blocks import Block, box_layer, figure, heat_layer, number, table, text
from lucidet.pages.charts import histogram, line_chart
from lucidet.pages.images import to_rgb


def config(page: PageData, event: Event) -> list[Block]:
    rows = event["rows"]
    blocks: list[Block] = []
    schedule = event["schedule"]
    if schedule.get("error"):
        blocks.append(text(f"no schedule: {schedule['error']}"))
    elif schedule.get("points"):
        stepwise = "MultiStep" in schedule["name"]  # a cosine schedule ignores SOLVER.STEPS
        decays = f"decays at {schedule['steps']}, " if stepwise else ""
        summary = (
            f"{schedule['name']}: batch {schedule['batch']}, full rate "
            f"{number(schedule['base_lr'])}, warm-up {schedule['warmup']} iterations, {decays}"
            f"{schedule['max_iter']:,} iterations"
        )
        blocks += [
            text(summary),
            line_chart(schedule["points"], "Learning rate over the run", "iteration", "rate"),
        ]
    changed = [[k, v, o, "read" if r else "not read"] for k, v, o, r in rows if o != "default"]
    head = ["key", "value", "origin", "by this model"]
    blocks.append(table(head, changed, "Values that were set"))
    every = [[k, v, o, "read" if r else "not read"] for k, v, o, r in rows]
    read = sum(bool(r[3]) for r in rows)
    blocks.append(
        table(head, every, f"All {len(rows)} values; {read} were read", filter=True, folded=True)
    )
    return blocks


def model(page: PageData, event: Event) -> list[Block]:
    rows = []
    for row in event["rows"]:
        state = "no parameters"
        if row["parameters"]:
            state = "trained" if row["trained"] == row["parameters"] else "partly frozen"
            state = state if row["trained"] else "frozen"
        rows.append(
            [
                " " * row["depth"] + (row["name"].rpartition(".")[2] or "model"),
                row["type"],
                row["shape"],
                row["parameters"],
                f"{row['flops'] / 1e9:.2f} G" if row["flops"] else "",
                f"{row['seconds'] * 1e3:.1f} ms" if row["calls"] else "",
                state,
            ]
        )
    head = ["module", "type", "output", "parameters", "FLOPs", "time", "state"]
    return [text(f"Weights: {event['weights']}"), table(head, rows, filter=True)]


def read(page: PageData, event: Event) -> list[Block]:
    key, size = page.original()
    boxes, classes = page.annotated()
    rows = [
        [str(i), page.class_name(c), *[round(v, 1) for v in box]]
        for i, (c, box) in enumerate(zip(classes, boxes.tolist(), strict=True))
    ]
    record = event["record"]
    crowd = sum(bool(a.get("iscrowd", 0)) for a in record.get("annotations") or [])
    note = f"; {crowd} crowd regions are not shown" if crowd else ""
    blocks = [
        figure(
            key,
            size,
            [page.objects_layer(boxes, classes)],
            f"{len(boxes)} ground-truth boxes{note}",
        )
    ]
    if rows:
        head = ["box", "class", "x1", "y1", "x2", "y2"]
        note = "Annotations; a click follows one"
        blocks.append(table(head, rows, note, groups=range(len(rows)), follow=True))
    return blocks


def transform(page: PageData, event: Event) -> list[Block]:
    image = to_rgb(whole(event["image"]), page.channels)
    index = page.trace.all("input.transform").index(event)
    last = index == len(page.trace.all("input.transform")) - 1
    if last:
        key, size = page.resized()
    else:
        key = f"transform {index}"
        size = page.add_image(key, image)
    boxes = event.get("boxes")
    layers = []
    if boxes is not None:
        _, classes = page.annotated()
        layers.append(page.objects_layer(boxes, classes if len(classes) == len(boxes) else None))
    return [figure(key, size, layers, event["transform"])]


def batch(page: PageData, event: Event) -> list[Block]:
    images = whole(event["images"])
    _, _, height, width = images.shape
    blocks: list[Block] = []
    for i, (h, w) in enumerate(event["image_sizes"]):
        if i >= min(len(images), 4):
            break
        key = f"batch {i}"
        pixels = images[i].permute(1, 2, 0)
        size = page.add_image(key, to_rgb(pixels, page.channels))
        frame = box_layer("image without padding", torch.tensor([[0.0, 0, w, h]]), ["image"])
        caption = f"image {i}: {h} x {w} in a batch of {height} x {width}, as the backbone sees it"
        blocks.append(figure(key, size, [frame], caption))
        real = images[i, :, :h, :w]
        names = list(page.channels) if len(page.channels) == len(real) else range(len(real))
        rows = [
            [str(name), float(c.mean()), float(c.std()), float(c.min()), float(c.max())]
            for name, c in zip(names, real, strict=True)
        ]
        head = ["channel", "mean", "std. deviation", "min", "max"]
        blocks.append(table(head, rows, "Channels after normalization, without padding"))
    return blocks


def features(page: PageData, event: Event) -> list[Block]:
    key, size = page.resized()
    extent = (float(size[0]), float(size[1]))
    if "input.batch" in page.trace:
        shape = whole(page.trace["input.batch"]["images"]).shape
        extent = (float(shape[3]), float(shape[2]))
    layers, rows, blocks = [], [], []
    for i, (name, value) in enumerate(event["features"].items()):
        maps = whole(value).float()
        strength = maps[0].abs().mean(dim=0)
        # a map may reach beyond the batch by part of a location: 7 rows of 64 on 416 pixels
        stride = 2 ** round(math.log2(max(extent[1] / maps.shape[2], 1)))
        reach = (float(maps.shape[3] * stride), float(maps.shape[2] * stride))
        layers.append(heat_layer(f"{name} (stride {stride})", strength, reach, on=i == 0))
        finite = maps[maps.isfinite()]
        rows.append(
            [
                name,
                str(stride),
                str(tuple(maps.shape)),
                float(finite.mean()) if len(finite) else float("nan"),
                float(finite.std()) if len(finite) > 1 else 0.0,
                f"{float((maps == 0).float().mean()):.0%}",
            ]
        )
        blocks.append(histogram(maps, f"{name}: activations"))
    head = ["map", "stride", "shape (N, C, h, w)", "mean", "std. deviation", "zeros"]
    picture = figure(key, size, layers, "Mean absolute activation; one layer a map")
    return [picture, table(head, rows), *blocks]


def anchors(page: PageData, event: Event) -> list[Block]:
    key, size = page.resized()
    rows, layers, total = [], [], 0
    for i, (boxes, cell) in enumerate(zip(event["anchors"], event["cell_anchors"], strict=True)):
        boxes = whole(boxes)
        per_cell = max(len(cell), 1)
        total += len(boxes)
        sides = cell[:, 2:4] - cell[:, :2] if cell.shape[1] == 4 else cell[:, 2:4]
        shapes = ", ".join(f"{w:.0f}x{h:.0f}" for w, h in sides.tolist())
        rows.append(
            [str(i), event["strides"][i], per_cell, len(boxes) // per_cell, len(boxes), shapes]
        )
        middle = _middle_cell(boxes, per_cell, size)
        names = [f"{page.level_name(i)}: anchor {a} of the location" for a in range(per_cell)]
        layers.append(
            box_layer(f"{page.level_name(i)}: a location", middle, names, color=i, on=i < 3)
        )
    rows.append(["all", "", "", "", total, ""])
    counts = " + ".join(str(len(whole(b))) for b in event["anchors"])
    for i, boxes in enumerate(event["anchors"]):
        layers.append(_grid_layer(page, i, whole(boxes), max(len(event["cell_anchors"][i]), 1)))
    head = [
        "level",
        "stride",
        "anchors a location",
        "locations",
        "anchors",
        "width x height, pixels",
    ]
    return [
        text(f"{counts} = {total} anchors"),
        figure(
            key, size, layers, "The anchors of one location in the middle, at true scale; the grid"
        ),
        table(head, rows),
    ]


def _middle_cell(boxes: Tensor, per_cell: int, size: tuple[int, int]) -> Tensor:
    """Return the anchors of the location nearest to the image's center."""
    if len(boxes) == 0:
        return boxes
    first = boxes[::per_cell]
    centers = (first[:, :2] + first[:, 2:4]) / 2
    nearest = int((centers - torch.tensor([size[0] / 2, size[1] / 2])).norm(dim=1).argmin())
    return boxes[nearest * per_cell : (nearest + 1) * per_cell]


def _grid_layer(page: PageData, level: int, boxes: Tensor, per_cell: int) -> Block:
    first = boxes[::per_cell]
    centers = (first[:, :2] + first[:, 2:4]) / 2
    step = max(1, -(-len(centers) // 1200))
    note = f"{len(centers)} locations" + (f", one of {step} drawn" if step > 1 else "")
    points = [[round(x, 1), round(y, 1)] for x, y in centers[::step].tolist()]
    name = f"{page.level_name(level)}: grid"
    return {"name": name, "on": False, "points": points, "color": level % 8, "note": note}
