"""A loss that is not finite names the images of its batch, and what is odd about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lucidet.engine.black_box import BlackBox
from lucidet.engine.loss_monitor import LossWatch, NonFiniteLossError
from lucidet.engine.odd_input import describe_images, odd_input
from lucidet.structures import Boxes, Instances

GOOD = [1.0, 2.0, 5.0, 6.0]


def record(*boxes: list[float], number: int = 7, image: Any = None) -> dict[str, Any]:
    instances = Instances((8, 10))
    instances.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    image = torch.zeros(3, 8, 10) if image is None else image
    name = f"{number}.jpg"
    return {"file_name": name, "image_id": number, "image": image, "instances": instances}


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (record(), None),  # no box at all
        (record(GOOD), None),
        (record(image=torch.zeros(3, 8, 10, dtype=torch.uint8)), None),
        (record(GOOD, [4.0, 2.0, 4.0, 6.0]), "gt_boxes[1] = [4, 2, 4, 6] has no area"),
        (record([4.0, 2.0, 3.0, 6.0]), "has no area"),
        (record([0.0, 0.0, torch.nan, 6.0]), "gt_boxes[0] = [0, 0, nan, 6] is not finite"),
        (record([0.0, 0.0, torch.inf, 6.0]), "is not finite"),
        (record([11.0, 0.0, 12.0, 6.0]), "is outside of the image, 10 x 8"),
        (record(image=torch.full((3, 8, 10), torch.inf)), "240 of 240 pixel values are not"),
        (record(image=torch.zeros(3, 0, 10)), "the image is empty, (3, 0, 10)"),
        ({"image_id": 7, "image": "no tensor"}, None),
    ],
)
def test_odd_input(odd: dict[str, Any], said: str | None) -> None:
    found = odd_input([[record(GOOD, number=8)], (odd,)])
    if said is None:
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith("7.jpg (image_id 7): ")
        assert said in found[0]


def test_what_is_no_record_is_not_looked_at() -> None:
    assert odd_input(None) == odd_input(torch.zeros(1)) == odd_input([]) == []
    assert describe_images([{}, {"image": 1}, "text"]) == []


def test_the_message_names_the_image(tmp_path: Path) -> None:
    watch = LossWatch(BlackBox(tmp_path))
    batch = [record(GOOD, number=8), record([4.0, 2.0, 4.0, 6.0], number=9)]
    watch.add(3, {"loss": torch.tensor(torch.nan)}, {}, batch)
    with pytest.raises(NonFiniteLossError) as stopped:
        watch.collect(wait=True)
    message = str(stopped.value)
    assert "Images of the batch: 8.jpg (image_id 8), 9.jpg (image_id 9)." in message
    assert "Odd input: 9.jpg (image_id 9): gt_boxes[0] = [4, 2, 4, 6] has no area" in message
    watch.add(4, {"loss": torch.tensor(torch.nan)}, {}, batch[:1])
    with pytest.raises(NonFiniteLossError, match=r"8.jpg .*No degenerate box and no pixel"):
        watch.collect(wait=True)
