"""Two-stage detectors: the spine from images to losses or detections.

Ren et al. 2015, Faster R-CNN (arXiv 1506.01497).
"""

# N images, C channels, H x W of the padded batch

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.modeling.backbone import Backbone, build_backbone
from lucidet.modeling.meta_arch.build import META_ARCH_REGISTRY
from lucidet.modeling.meta_arch.detector import Detector, Record, postprocess
from lucidet.modeling.meta_arch.inputs import describe_input
from lucidet.modeling.postprocessing import detector_postprocess
from lucidet.modeling.proposal_generator import build_proposal_generator
from lucidet.modeling.roi_heads import ROIHeads, build_roi_heads
from lucidet.structures import ImageList, Instances
from lucidet.utils.probe import probe


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(Detector):
    """A backbone, a proposal generator, and heads that look at each proposal."""

    paste_whole_pixels = False  # for subclasses with a constructor of their own

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: ROIHeads,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
        paste_whole_pixels: bool = False,
    ) -> None:
        """
        Args:
            backbone: images (N, C, H, W) -> dict of features.
            proposal_generator: features -> proposals and losses; None: proposals come with the
                data, as `proposals`.
            roi_heads: features and proposals -> detections or losses.
            pixel_mean: one entry a channel, in the units of the images (0..255).
            pixel_std: likewise.
            input_format: "BGR" or "RGB", for whoever draws the images.
            vis_period: iterations between two drawings of a training loop; 0: none.
            paste_whole_pixels: masks are pasted as in torchvision.
        """
        super().__init__(backbone, pixel_mean, pixel_std)
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.input_format = input_format
        self.vis_period = vis_period
        self.paste_whole_pixels = paste_whole_pixels

    @property
    def _num_classes(self) -> int | None:
        return getattr(self.roi_heads, "num_classes", None)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "roi_heads": build_roi_heads(cfg, backbone.output_shape()),
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "paste_whole_pixels": cfg.MODEL.ROI_MASK_HEAD.PASTE_WHOLE_PIXELS,
        }

    def forward(self, batched_inputs: list[Record]) -> dict[str, Tensor] | list[Record]:
        """Return the losses at training, the detections at test.

        Args:
            batched_inputs: one dict an image:
                image: (C, H, W), 0..255, channels in the order of INPUT.FORMAT.
                instances: at training, with `gt_boxes` (XYXY, pixels of `image`), `gt_classes`.
                height, width: of the image that detections are wanted for; default: `image`'s.
                proposals: without a proposal generator, Instances with `proposal_boxes` and
                    `objectness_logits`.

        Returns:
            At training a dict of scalar losses. At test one dict an image, whose `instances` have
            `pred_boxes`, `scores`, `pred_classes`, perhaps `pred_masks` and `pred_keypoints`.
        """
        if not self.training:
            return self.inference(batched_inputs)  # type: ignore[return-value]
        images, objects = self.prepare(batched_inputs)
        features = self.backbone(images.tensor)
        probe("backbone.features", features=features)
        proposals, proposal_losses = self._propose(batched_inputs, images, features, objects)
        _, detector_losses = self.roi_heads(images, features, proposals, objects)
        return {**detector_losses, **proposal_losses}

    def inference(
        self,
        batched_inputs: list[Record],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[Record] | list[Instances]:
        """Return detections for the images.

        Args:
            batched_inputs: see :meth:`forward`.
            detected_instances: per image, with `pred_boxes` and `pred_classes`: these are given
                to the heads that look at detections, and nothing is detected again.
            do_postprocess: scale to `height` x `width` and return dicts; else Instances in the
                frame of `image`, with the model's own classes (see :meth:`set_class_map`).
        """
        if self.training:
            raise ValueError("inference needs a model in test mode: call model.eval() first")
        images, _ = self.prepare(batched_inputs)
        features = self.backbone(images.tensor)
        probe("backbone.features", features=features)
        if detected_instances is None:
            proposals, _ = self._propose(batched_inputs, images, features)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            given = [instances.to(self.device) for instances in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, given)
        if not do_postprocess:
            return results
        results = self._in_classes_of_data(results)
        if self.paste_whole_pixels:
            return postprocess(results, batched_inputs, images.image_sizes, whole_pixels=True)
        return self._postprocess(results, batched_inputs, images.image_sizes)

    def _propose(
        self,
        batched_inputs: list[Record],
        images: ImageList,
        features: dict[str, Tensor],
        objects: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return proposals and their losses; without a generator, those that the data bring."""
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, objects)
        for index, record in enumerate(batched_inputs):
            if "proposals" not in record:
                raise ValueError(
                    f"{describe_input(record, index)}: no 'proposals', and this model has no "
                    "proposal generator; add Instances with proposal_boxes and objectness_logits"
                )
        return [record["proposals"].to(self.device) for record in batched_inputs], {}

    # static as in detectron2, where user code calls it on the class
    @staticmethod
    def _postprocess(  # type: ignore[override]
        instances: list[Instances],
        batched_inputs: list[Record],
        image_sizes: list[tuple[int, int]],
    ) -> list[Record]:
        """Scale detections to the size asked for; `image_sizes` are those without padding."""
        return postprocess(instances, batched_inputs, image_sizes)


@META_ARCH_REGISTRY.register()
class ProposalNetwork(Detector):
    """The first stage alone: class-agnostic proposals."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        """See :class:`GeneralizedRCNN` for the arguments."""
        super().__init__(backbone, pixel_mean, pixel_std)
        self.proposal_generator = proposal_generator

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    def forward(self, batched_inputs: list[Record]) -> dict[str, Tensor] | list[Record]:
        """Return the losses at training; at test one dict an image, with `proposals`.

        Args:
            batched_inputs: see :meth:`GeneralizedRCNN.forward`; classes are not used.

        Returns:
            The `proposals` are Instances with `proposal_boxes` and `objectness_logits`, highest
            first, scaled to `height` x `width`.
        """
        images, objects = self.prepare(batched_inputs)
        features = self.backbone(images.tensor)
        probe("backbone.features", features=features)
        proposals, losses = self.proposal_generator(images, features, objects)
        if self.training:
            return losses
        results = []
        for found, record, (height, width) in zip(
            proposals, batched_inputs, images.image_sizes, strict=True
        ):
            scaled = detector_postprocess(
                found, record.get("height", height), record.get("width", width)
            )
            results.append({"proposals": scaled})
        return results
