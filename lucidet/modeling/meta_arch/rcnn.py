"""Two-stage detectors: the spine from images to losses or detections.

Ren et al. 2015, Faster R-CNN (arXiv 1506.01497).
"""

# N images, C channels, H x W of the padded batch

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.modeling.backbone import Backbone, build_backbone
from lucidet.modeling.meta_arch.build import META_ARCH_REGISTRY
from lucidet.modeling.meta_arch.inputs import check_inputs
from lucidet.modeling.postprocessing import detector_postprocess
from lucidet.modeling.proposal_generator import build_proposal_generator
from lucidet.modeling.roi_heads import build_roi_heads
from lucidet.structures import ImageList, Instances
from lucidet.utils.probe import probe

Record = dict[str, Any]


class _TwoStage(nn.Module):
    """What both spines do with images before their first layer."""

    backbone: Backbone
    pixel_mean: Tensor
    pixel_std: Tensor

    def _set_pixel_statistics(
        self, pixel_mean: Sequence[float], pixel_std: Sequence[float]
    ) -> None:
        if len(pixel_mean) != len(pixel_std):
            raise ValueError(
                f"MODEL.PIXEL_MEAN has {len(pixel_mean)} channels, but MODEL.PIXEL_STD has "
                f"{len(pixel_std)}; both need one entry a channel"
            )
        # not persistent: detectron2's weights don't hold them, the config does
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @property
    def device(self) -> torch.device:
        """Where the model is, and where it moves its inputs."""
        return self.pixel_mean.device

    def preprocess_image(self, batched_inputs: Sequence[Record]) -> ImageList:
        """Return the images normalised and padded to one size, on the model's device.

        Args:
            batched_inputs: each with `image` (C, H, W), 0..255, channels as in INPUT.FORMAT.
        """
        images = [record["image"].to(self.device, non_blocking=True) for record in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        batch = ImageList.from_tensors(
            images,
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        )
        probe("input.batch", images=batch.tensor, image_sizes=batch.image_sizes)
        return batch

    def _gt_instances(self, batched_inputs: Sequence[Record]) -> list[Instances] | None:
        """Return the images' objects on the model's device, or None where none are given."""
        if "instances" not in batched_inputs[0]:
            return None
        return [record["instances"].to(self.device) for record in batched_inputs]

    def _features(self, images: ImageList) -> dict[str, Tensor]:
        features = self.backbone(images.tensor)
        probe("backbone.features", features=features)
        return features


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(_TwoStage):
    """A backbone, a proposal generator, and heads that look at each proposal."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
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
        """
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.input_format = input_format
        self.vis_period = vis_period
        self._set_pixel_statistics(pixel_mean, pixel_std)

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
            At training a dict of scalar losses. At test one dict an image, whose `instances`
            have `pred_boxes`, `scores`, `pred_classes`, highest score first.
        """
        if not self.training:
            return self.inference(batched_inputs)
        self._check(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        objects = self._gt_instances(batched_inputs)
        features = self._features(images)
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
                to the heads that look at detections, and nothing is detected anew.
            do_postprocess: scale to `height` x `width` and return dicts; else Instances in the
                frame of `image`.
        """
        if self.training:
            raise ValueError("inference needs a model in test mode: call model.eval() first")
        self._check(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features = self._features(images)
        if detected_instances is None:
            proposals, _ = self._propose(batched_inputs, images, features)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            given = [instances.to(self.device) for instances in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, given)
        if not do_postprocess:
            return results
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
        if "proposals" not in batched_inputs[0]:
            raise ValueError(
                "MODEL.PROPOSAL_GENERATOR.NAME is 'PrecomputedProposals', but the inputs have no "
                "'proposals'; set MODEL.LOAD_PROPOSALS True and DATASETS.PROPOSAL_FILES_*"
            )
        return [record["proposals"].to(self.device) for record in batched_inputs], {}

    def _check(self, batched_inputs: list[Record]) -> None:
        check_inputs(
            batched_inputs,
            num_channels=len(self.pixel_mean),
            training=self.training,
            num_classes=getattr(self.roi_heads, "num_classes", None),
        )

    @staticmethod
    def _postprocess(
        instances: list[Instances],
        batched_inputs: list[Record],
        image_sizes: list[tuple[int, int]],
    ) -> list[Record]:
        """Scale detections to the size asked for; `image_sizes` are those without padding."""
        results = []
        for image, (detections, record, (height, width)) in enumerate(
            zip(instances, batched_inputs, image_sizes, strict=True)
        ):
            scaled = detector_postprocess(
                detections, record.get("height", height), record.get("width", width)
            )
            results.append({"instances": scaled})
            if scaled.has("scores"):
                probe(
                    "detections.final",
                    image=image,
                    boxes=scaled.pred_boxes.tensor,
                    scores=scaled.scores,
                    classes=scaled.pred_classes,
                )
        return results


@META_ARCH_REGISTRY.register()
class ProposalNetwork(_TwoStage):
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
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self._set_pixel_statistics(pixel_mean, pixel_std)

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
        check_inputs(batched_inputs, num_channels=len(self.pixel_mean), training=self.training)
        images = self.preprocess_image(batched_inputs)
        objects = self._gt_instances(batched_inputs)
        features = self._features(images)
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
