"""From the resized image back to the original one."""

# N images, P places for the results of an image

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lucidet.layers import paste_masks_in_image
from lucidet.structures import Instances, PaddedInstances, clip_padded, take_rows, tensor_on
from lucidet.utils.memory import retry_if_cuda_oom
from lucidet.utils.probe import probe_images

__all__ = [
    "batch_on_gpu",
    "detector_postprocess",
    "keep_rows",
    "postprocess",
    "postprocess_padded",
]

#: pasted masks of an image that a probe shows, which are as large as the image
MASKS_SHOWN = 20


def detector_postprocess(
    results: Instances,
    output_height: int,
    output_width: int,
    mask_threshold: float = 0.5,
    keep_empty: bool = False,
    whole_pixels: bool = False,
) -> Instances:
    """Return the detections in the frame of another size of the same image.

    Boxes are scaled and clipped; those left without area are dropped, unless `keep_empty`. Masks
    are pasted into the image, keypoints are scaled.

    Args:
        results: of one image, in the frame of ``results.image_size``, with `pred_boxes` or
            `proposal_boxes`, and perhaps `pred_masks` ((D, 1, S, S) probabilities, or ROIMasks) and
            `pred_keypoints` (D, J, 3). It isn't changed.
        output_height: pixels.
        output_width: pixels.
        mask_threshold: a pixel belongs to a mask from this probability on.
        keep_empty: keep boxes without area.
        whole_pixels: see :func:`lucidet.layers.paste_masks_in_image`.

    Returns:
        New Instances of size (output_height, output_width); `pred_masks` is (D, output_height,
        output_width) bool.

    Raises:
        ValueError: `results` has no boxes, or a size isn't positive.
    """
    height, width = int(output_height), int(output_width)
    if height <= 0 or width <= 0:
        raise ValueError(f"the output size must be positive, got height {height}, width {width}")
    names = [name for name in ("pred_boxes", "proposal_boxes") if results.has(name)]
    if not names:
        raise ValueError(
            "expected Instances with pred_boxes or proposal_boxes, got the fields "
            f"{sorted(results.get_fields())}"
        )
    old_height, old_width = results.image_size
    boxes = results.get(names[0]).clone()
    boxes.scale(width / old_width, height / old_height)
    boxes.clip((height, width))
    output = Instances((height, width), **{**results.get_fields(), names[0]: boxes})
    if not keep_empty:
        output = output[boxes.nonempty().nonzero().squeeze(1)]  # one wait for all fields
    if output.has("pred_masks"):
        masks, final = output.pred_masks, output.get(names[0]).tensor
        masks = getattr(masks, "tensor", masks)
        masks = masks[:, 0] if masks.dim() == 4 else masks  # (D, S, S)
        paste = retry_if_cuda_oom(paste_masks_in_image)
        output.pred_masks = paste(
            masks, final, (height, width), threshold=mask_threshold, whole_pixels=whole_pixels
        )
    if output.has("pred_keypoints"):
        scale = [width / old_width, height / old_height, 1.0]
        keypoints = output.pred_keypoints
        output.pred_keypoints = keypoints * tensor_on(scale, keypoints.device)
    return output


def postprocess_padded(
    results: PaddedInstances, output_sizes: Sequence[tuple[int, int]], keep_empty: bool = False
) -> PaddedInstances:
    """Do :func:`detector_postprocess` for all images at once; the CPU does not wait.

    Args:
        results: with `pred_boxes`.
        output_sizes: (height, width) of each image.
        keep_empty: keep boxes without area.
    """
    sizes = [(int(height), int(width)) for height, width in output_sizes]
    for height, width in sizes:
        if height <= 0 or width <= 0:
            raise ValueError(
                f"the output size must be positive, got height {height}, width {width}"
            )
    factors = [
        [[width / old_width, height / old_height] * 2]
        for (height, width), (old_height, old_width) in zip(sizes, results.image_sizes, strict=True)
    ]
    boxes = results.fields["pred_boxes"]
    boxes = clip_padded(boxes * tensor_on(factors, boxes.device), sizes)  # (N, P, 4)
    fields = {**results.fields, "pred_boxes": boxes}
    scaled = PaddedInstances(sizes, fields, results.count)
    return scaled if keep_empty else keep_rows(scaled, (boxes[..., 2:] > boxes[..., :2]).all(dim=2))


def keep_rows(batch: PaddedInstances, keep: Tensor) -> PaddedInstances:
    """Return the rows of each image where `keep` (N, P) is True, in their order."""
    keep = keep & batch.valid
    first = torch.where(keep, 0, 1).argsort(dim=1, stable=True)  # (N, P)
    fields = {name: take_rows(values, first) for name, values in batch.fields.items()}
    return PaddedInstances(batch.image_sizes, fields, keep.sum(dim=1))


def postprocess(
    instances: Sequence[Instances],
    batched_inputs: Sequence[dict[str, Any]],
    image_sizes: Sequence[tuple[int, int]],
    keep_empty: bool = False,
    whole_pixels: bool = False,
) -> list[dict[str, Any]]:
    """Scale each image's detections to the size asked for.

    Args:
        instances: per image, in the frame of its `image`.
        batched_inputs: per image, with `height` and `width` where another size is asked for.
        image_sizes: (height, width) of each image without padding.
        keep_empty: keep boxes that clipping leaves without area.
        whole_pixels: masks are pasted as in torchvision; see
            :func:`lucidet.layers.paste_masks_in_image`.

    Returns:
        Per image ``{"instances": Instances}``.
    """
    sizes = [
        (record.get("height", height), record.get("width", width))
        for record, (height, width) in zip(batched_inputs, image_sizes, strict=True)
    ]
    batch = batch_on_gpu(instances)
    if batch is not None and "pred_boxes" in batch.fields:
        scaled = postprocess_padded(batch, sizes, keep_empty).split()
    else:
        scaled = [
            detector_postprocess(found, *size, keep_empty=keep_empty, whole_pixels=whole_pixels)
            for found, size in zip(instances, sizes, strict=True)
        ]

    def of_image(image: int) -> dict[str, Any] | None:
        final = scaled[image]
        if not final.has("scores"):
            return None
        boxes, classes = final.pred_boxes.tensor, final.pred_classes
        return {"boxes": boxes, "scores": final.scores, "classes": classes}

    probe_images("detections.final", len(scaled), of_image)
    _show_masks_and_keypoints(scaled)
    return [{"instances": found} for found in scaled]


def _show_masks_and_keypoints(results: Sequence[Instances]) -> None:
    """Show the pasted masks of each image's first detections, and all keypoints."""

    def masks(image: int) -> dict[str, Any] | None:
        own = results[image]
        if not (own.has("pred_masks") and own.has("scores")):
            return None
        shown = {"boxes": own.pred_boxes.tensor, "classes": own.pred_classes}
        shown |= {"scores": own.scores, "masks": own.pred_masks}
        return {name: values[:MASKS_SHOWN] for name, values in shown.items()}

    def keypoints(image: int) -> dict[str, Any] | None:
        own = results[image]
        if not (own.has("pred_keypoints") and own.has("scores")):
            return None
        return {"boxes": own.pred_boxes.tensor, "keypoints": own.pred_keypoints}

    probe_images("detections.masks", len(results), masks)
    probe_images("detections.keypoints", len(results), keypoints)


def batch_on_gpu(instances: Sequence[Instances]) -> PaddedInstances | None:
    """Return the batch that results are views of, where a look at each would make a GPU wait.

    On a CPU each image is looked at, and boxes that are not finite raise an error.
    """
    batch = PaddedInstances.untouched(instances)
    return None if batch is None or batch.count.device.type == "cpu" else batch
