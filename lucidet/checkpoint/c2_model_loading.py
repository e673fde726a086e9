"""Names and places of foreign weights, under the functions' names of detectron2."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lucidet.checkpoint.formats import caffe2, rename_weights
from lucidet.checkpoint.formats.key_matching import place
from lucidet.checkpoint.formats.renamed import Renamed

__all__ = ["align_and_update_state_dicts", "convert_c2_detectron_names"]


def align_and_update_state_dicts(
    model_state_dict: Mapping[str, Tensor],
    ckpt_state_dict: Mapping[str, Tensor],
    c2_conversion: bool = True,
) -> dict[str, Tensor]:
    """Return weights under the names of a model that they are the ends of.

    ``layer2.weight`` of a file belongs to ``block1.layer2.weight`` of the model, unless a longer
    end, such as ``res.layer2.weight``, fits better.

    Args:
        model_state_dict: of the model; not changed.
        ckpt_state_dict: of the file.
        c2_conversion: rename foreign formats first.

    Returns:
        name in the model -> tensor, for those that have a place and its shape; what has none keeps
        its name.
    """
    if c2_conversion:
        renamed = rename_weights(ckpt_state_dict, heuristics=True)
    else:
        renamed = Renamed("by their ends", dict(ckpt_state_dict))
    renamed.anywhere = True
    placed = place(renamed, model_state_dict)
    return {
        name: value
        for name, value in placed.items()
        if name not in model_state_dict or model_state_dict[name].shape == value.shape
    }


def convert_c2_detectron_names(
    weights: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return Caffe2's weights under lucidet's names, and new name -> name in the file."""
    renamed = caffe2.rename(weights).weights
    by_end = {caffe2.blob_name(name): name for name in weights}
    old = {}
    for new in renamed:
        ends = (new.split(".", n)[-1] for n in range(new.count(".") + 1))
        found = next((by_end[end] for end in ends if end in by_end), None)
        if found is not None:
            old[new] = found
    return renamed, old
