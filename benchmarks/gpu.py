"""Whole training steps and inference on one GPU, lucidet beside torchvision and detectron2.

    python benchmarks/gpu.py                 # at most 4 minutes; writes benchmarks/gpu.md
    python benchmarks/gpu.py --dry           # tiny sizes on the CPU: does everything run?

R50-FPN, 800 x 1088 pixels, 12 ground-truth boxes an image, frozen norms, stem and res2 frozen, SGD.
detectron2's rows need detectron2 to be importable. First the numbers are compared: CPU with GPU,
CUDA graphs with plain steps, folded norms with plain ones, the optimized model with the model.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.bench.models import photo, settle_norms, targets, torchvision_detector
from lucidet.config import get_cfg
from lucidet.engine.acceleration import BUCKET, faster_parts
from lucidet.layers import FrozenBatchNorm2d
from lucidet.model_zoo import get_config_file
from lucidet.modeling import build_model
from lucidet.modeling.optimize import OptimizedModel
from lucidet.structures import Boxes, Instances

PIXELS = {"PIXEL_MEAN": [123.675, 116.28, 103.53], "PIXEL_STD": [58.395, 57.12, 57.375]}
OBJECTS = 12
#: of losses and scores (relative), and of gradients (1 - cosine)
LIMITS = (1e-3, 1e-3)


@dataclass(frozen=True)
class Setup:
    """What is measured where."""

    device: str
    size: tuple[int, int]
    images: int
    warm_up: int
    rounds: int
    until: float  # no row starts after this time


@dataclass
class Side:
    """One library's detector: a model, its losses for n images, its detections for n images."""

    name: str
    model: nn.Module
    losses: Callable[[int], dict[str, Tensor]]
    detect: Callable[[int], Any]


def data(setup: Setup) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Return images (3, H, W) in 8 bits, and each one's boxes and classes, on the host."""
    height, width = setup.size
    seeds = range(setup.images)
    pixels = [photo(height, width, s).clamp(0, 255).to(torch.uint8) for s in seeds]
    if setup.device == "cuda":  # as a loader leaves them
        pixels = [image.pin_memory() for image in pixels]
    return pixels, [targets(height, width, OBJECTS, 80, s) for s in seeds]


def records(setup: Setup, boxes_of: Any, instances_of: Any) -> list[dict[str, Any]]:
    """Return the images as detectron2 and lucidet take them."""
    found = []
    for image, (boxes, classes) in zip(*data(setup), strict=True):
        instances = instances_of(setup.size)
        instances.gt_boxes, instances.gt_classes = boxes_of(boxes.clone()), classes.clone()
        height, width = setup.size
        found.append({"image": image, "height": height, "width": width, "instances": instances})
    return found


# ------------------------------------------------------------------------------------------- sides


def lucidet(
    kind: str, setup: Setup, *, graphs: bool, channels_last: bool = True, **more: Any
) -> Side:
    """Return lucidet's detector; `more`: config keys with __ for dots."""
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(f"COCO-Detection/{kind}_R_50_FPN_1x.yaml"))
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE, cfg.INPUT.FORMAT = "", setup.device, "RGB"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = PIXELS["PIXEL_MEAN"], PIXELS["PIXEL_STD"]
    cfg.merge_from_list([x for key, v in more.items() for x in (key.replace("__", "."), v)])
    torch.manual_seed(0)
    model = build_model(cfg)
    settle_norms(model)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    inputs = records(setup, Boxes, Instances)
    device = torch.device(setup.device)
    parts = faster_parts(model, device, False, "on" if graphs else "off")
    optimized = OptimizedModel(model) if graphs else OptimizedModel(model, capture=None)

    def losses(n: int) -> dict[str, Tensor]:
        with parts.in_use() if parts else nullcontext():
            return model(inputs[:n])

    name = f"lucidet{', CUDA graphs' if graphs else ''}"
    return Side(name, model, losses, lambda n: optimized(inputs[:n]))


def torchvision(kind: str, setup: Setup) -> Side:
    """Return torchvision's detector."""
    background = 1 if kind == "faster_rcnn" else 0
    model = torchvision_detector(kind, 80 + background).to(setup.device)
    settle_norms(model)
    pixels, truth = data(setup)

    def images(n: int) -> list[Tensor]:
        return [image.to(setup.device, non_blocking=True).float() / 255 for image in pixels[:n]]

    def losses(n: int) -> dict[str, Tensor]:
        moved = [(b.to(setup.device), c.to(setup.device) + background) for b, c in truth[:n]]
        return model(images(n), [{"boxes": boxes, "labels": classes} for boxes, classes in moved])

    return Side("torchvision", model, losses, lambda n: model(images(n)))


def detectron2(kind: str, setup: Setup) -> Side:
    """Return detectron2's detector."""
    from detectron2 import model_zoo
    from detectron2.modeling import build_model as build
    from detectron2.structures import Boxes as TheirBoxes
    from detectron2.structures import Instances as TheirInstances
    from detectron2.utils.events import EventStorage

    cfg = model_zoo.get_config(f"COCO-Detection/{kind}_R_50_FPN_1x.yaml")
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE, cfg.INPUT.FORMAT = "", setup.device, "RGB"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = PIXELS["PIXEL_MEAN"], PIXELS["PIXEL_STD"]
    torch.manual_seed(0)
    model = build(cfg)
    settle_norms(model)
    inputs = records(setup, TheirBoxes, TheirInstances)

    def losses(n: int) -> dict[str, Tensor]:
        with EventStorage():
            return model(inputs[:n])

    return Side("detectron2", model, losses, lambda n: model(inputs[:n]))


# --------------------------------------------------------------------------------------- measuring


@contextmanager
def precision(setup: Setup, bf16: bool) -> Iterator[None]:
    with torch.autocast(setup.device, dtype=torch.bfloat16, enabled=bf16):
        yield


def seconds(work: Callable[[], Any], setup: Setup) -> float:
    """Return the median time of a call, with what it leaves to the GPU."""
    times = []
    for index in range(setup.warm_up + setup.rounds):
        start = time.perf_counter()
        work()
        if setup.device == "cuda":
            torch.cuda.synchronize()
        if index >= setup.warm_up:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def training(side: Side, setup: Setup, images: int, bf16: bool) -> Callable[[], None]:
    """Return a whole training step."""
    weights = [p for p in side.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=1e-12, momentum=0.9, fused=True)
    side.model.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with precision(setup, bf16):
            losses = side.losses(images)
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()

    return step


def inference(side: Side, setup: Setup, images: int, bf16: bool) -> Callable[[], None]:
    """Return an inference that ends with the detections on the host."""
    side.model.eval()

    def detect() -> None:
        with torch.no_grad(), precision(setup, bf16):
            for output in side.detect(images):
                found = output["instances"].to("cpu") if "instances" in output else output
                if found is output:
                    found = {name: value.cpu() for name, value in output.items()}

    return detect


def rows(setup: Setup, dry: bool) -> Iterator[tuple[str, ...]]:
    """Yield (detector, what, library, ms, images a second, peak MB), the important ones first."""
    plans = [("faster_rcnn", "training", 8), ("retinanet", "training", 8)]
    plans += [("faster_rcnn", "inference", 1), ("retinanet", "inference", 1)]
    plans += [("atss", "training", 8), ("fcos", "training", 8)]
    plans += [("faster_rcnn", "training", 2), ("faster_rcnn", "inference", 8)]
    if dry:
        plans = [("faster_rcnn", "training", 2), ("retinanet", "inference", 1)]
    for bf16 in (False,) if dry else (True, False):
        for kind, what, images in plans:
            for make in sides_of(kind, setup):
                title = f"{what}, {images} images, {'bf16' if bf16 else 'fp32'}"
                if time.perf_counter() > setup.until:
                    yield kind, title, make.__name__, "out of time", "", ""
                    continue
                yield measured(make, kind, what, images, bf16, title, setup)


def sides_of(kind: str, setup: Setup) -> list[Callable[[], Side]]:
    """Return what builds each library's side."""

    def lucidet_plain() -> Side:
        return lucidet(kind, setup, graphs=False)

    def lucidet_graphs() -> Side:
        return lucidet(kind, setup, graphs=True)

    def torchvision_side() -> Side:
        return torchvision(kind, setup)

    def detectron2_side() -> Side:
        return detectron2(kind, setup)

    makers = [lucidet_plain] + ([lucidet_graphs] if setup.device == "cuda" else [])
    if kind in ("faster_rcnn", "retinanet"):
        has_detectron2 = importlib.util.find_spec("detectron2") is not None
        makers = [torchvision_side, *([detectron2_side] if has_detectron2 else []), *makers]
    return makers


def measured(
    make: Callable[[], Side],
    kind: str,
    what: str,
    images: int,
    bf16: bool,
    title: str,
    setup: Setup,
) -> tuple[str, ...]:
    if setup.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        side = make()
        work = (training if what == "training" else inference)(side, setup, images, bf16)
        took = seconds(work, setup)
        name = side.name
    except Exception as error:
        return kind, title, make.__name__, f"{type(error).__name__}: {error}"[:120], "", ""
    finally:
        side = work = None  # type: ignore[assignment]
        gc.collect()
    peak = torch.cuda.max_memory_allocated() / 2**20 if setup.device == "cuda" else 0
    return kind, title, name, f"{1000 * took:.1f}", f"{images / took:.1f}", f"{peak:.0f}"


# ------------------------------------------------------------------------------------------ checks


def gradients(side: Side, images: int, steps: int = 1) -> dict[str, Tensor]:
    """Return losses and gradients of the last of some steps, on the host."""
    side.model.train()
    for _ in range(steps):
        side.model.zero_grad(set_to_none=True)
        torch.manual_seed(3)
        losses = side.losses(images)
        sum(losses.values()).backward()  # type: ignore[union-attr]
    found = {name: loss.detach().cpu() for name, loss in losses.items()}
    for name, weight in side.model.named_parameters():
        if weight.grad is not None:
            found[f"gradient of {name}"] = weight.grad.cpu()
    return found


def difference(got: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[float, float]:
    """Return how far apart losses (relative) and gradients (1 - cosine) are at most.

    Not each number of a gradient: a ReLU at 0 may open or close by rounding.
    """
    assert list(got) == list(expected), set(got) ^ set(expected)
    losses = gradients = 0.0
    for name, value in expected.items():
        one, other = got[name].double().flatten(), value.double().flatten()
        if not name.startswith("gradient"):
            losses = max(losses, float((one - other).abs().max() / other.abs().max()))
        elif other.abs().max() > 0:
            cosine = float(one @ other / (one.norm() * other.norm()))
            gradients = max(gradients, 1 - cosine)
    return losses, gradients


def checks(setup: Setup) -> Iterator[tuple[str, str, float, float]]:
    """Yield (detector, what is compared, difference of losses or scores, of gradients)."""
    small = Setup(setup.device, (128, 160), 2, 0, 1, setup.until)
    on_cpu = Setup("cpu", small.size, 2, 0, 1, setup.until)
    # nothing is drawn where everything is taken: CPUs and GPUs draw other numbers
    everything = {
        "MODEL__RPN__BATCH_SIZE_PER_IMAGE": 10**6,
        "MODEL__RPN__POSITIVE_FRACTION": 1.0,
        "MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE": 10**6,
        "MODEL__ROI_HEADS__POSITIVE_FRACTION": 1.0,
    }
    for kind in ("faster_rcnn", "retinanet", "atss", "fcos") if setup.images > 2 else ("atss",):
        options = everything if kind == "faster_rcnn" else {}

        def side(where: Setup, graphs: bool, kind: str = kind, options: Any = options) -> Side:
            # built again for each: some normalizers are averages over steps
            return lucidet(kind, where, graphs=graphs, channels_last=False, **options)

        with _norms_folded(False):
            plain = gradients(side(small, False), 2)
        on_host = gradients(side(on_cpu, False), 2)
        yield kind, f"{setup.device} and CPU", *difference(plain, on_host)
        with _norms_folded(True):
            yield (
                kind,
                "folded norms and plain",
                *difference(gradients(side(small, False), 2), plain),
            )
        if setup.device == "cuda":
            graphs, eager = side(small, True), side(small, False)
            eager.model.padding_multiple = BUCKET  # type: ignore[assignment]
            found = difference(gradients(graphs, 2, 5), gradients(eager, 2, 5))
            yield kind, "CUDA graphs and plain steps", *found
            yield kind, "detections of graphs and of the model", _detections_differ(graphs), 0.0


@contextmanager
def _norms_folded(folded: bool) -> Iterator[None]:
    before, FrozenBatchNorm2d.fold_on = FrozenBatchNorm2d.fold_on, ("cuda", "cpu") if folded else ()
    try:
        yield
    finally:
        FrozenBatchNorm2d.fold_on = before


@torch.no_grad()
def _detections_differ(side: Side) -> float:
    """Return the largest difference of scores between the optimized model and the model."""
    side.model.eval()
    for _ in range(4):
        optimized = side.detect(2)
    model = OptimizedModel(side.model, capture=None)
    expected = model(records(Setup("cpu", (128, 160), 2, 0, 1, 0.0), Boxes, Instances))
    worst = 0.0
    for one, other in zip(optimized, expected, strict=True):
        a, b = one["instances"].scores.cpu(), other["instances"].scores.cpu()
        worst = max(worst, float((a - b).abs().max()) if len(a) == len(b) > 0 else len(a) != len(b))
    return worst


def main(arguments: list[str] | None = None) -> int:
    """Compare, measure, print and write the table; 1: some numbers differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dry", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--minutes", type=float, default=4.0, help="no row starts after this time")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("gpu.md"))
    options = parser.parse_args(arguments)
    if not options.dry and not torch.cuda.is_available():
        parser.error("there is no GPU here; --dry runs everything in tiny sizes on the CPU")
    until = time.perf_counter() + 60 * options.minutes
    setup = Setup("cuda", (800, 1088), 8, 5, 10, until)
    if options.dry:
        setup = Setup("cpu", (96, 128), 2, 0, 1, until)
    card = torch.cuda.get_device_name() if setup.device == "cuda" else "no GPU (a dry run)"
    day = datetime.datetime.now(tz=datetime.timezone.utc).date()
    lines = [f"# {card}, {day}", "", f"torch {torch.__version__}; {setup.size} pixels.", ""]
    lines += [
        f"Largest differences, at most {LIMITS[0]} of a loss and {LIMITS[1]} of a direction.",
        "",
    ]
    lines += ["| detector | compared | losses | gradients |", "|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    failed = False
    # exact float32: TF32 would hide what is compared
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    for kind, what, losses, directions in checks(setup):
        failed |= not (losses <= LIMITS[0] and directions <= LIMITS[1])
        lines.append(f"| {kind} | {what} | {losses:.1e} | {directions:.1e} |")
        print(lines[-1], flush=True)
    torch.backends.cudnn.allow_tf32 = True
    heads = ["detector", "", "library", "ms", "images a second", "peak MB"]
    table = ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    print("\n".join(table), flush=True)
    for row in rows(setup, options.dry):
        table.append(f"| {' | '.join(row)} |")
        print(table[-1], flush=True)
    options.out.write_text("\n".join([*lines, *table]) + "\n")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
