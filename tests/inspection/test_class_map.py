"""Names of classes where the model counts them in another way than the data set."""

from __future__ import annotations

import pytest

from lucidet.data import MetadataCatalog
from lucidet.inspection.page.page_data import PageData
from lucidet.inspection.page.report import render
from lucidet.inspection.trace import Trace
from tests.modeling.tiny import FPN, RETINANET


@pytest.mark.parametrize(
    ("class_map", "names"),
    [
        ([1, -1, 0], ["cat", "the model's class 1", "dog"]),
        ([], ["dog", "cat", "class 2"]),
    ],
)
def test_names_of_the_models_classes(class_map, names):
    trace = Trace()
    trace.context = {"classes": ["dog", "cat"], "class_map": class_map}
    page = PageData(trace)
    assert [page.own_class_name(k) for k in range(3)] == names
    assert page.class_name(1) == "cat"


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("parts", [FPN, RETINANET], ids=["rcnn", "retinanet"])
def test_objects_have_the_data_sets_names_everywhere(look, parts, training):
    """Also where the model has its own number for their class."""
    name = "inspection_class_map"
    MetadataCatalog.get(name).thing_classes = ["dog", "cat"]
    try:
        overrides = [("MODEL.CLASS_MAP", [1, -1, 0])]
        trace = look(parts, training, overrides, classes=[1, 1], dataset=name)
    finally:
        MetadataCatalog.remove(name)
    assert trace.context["error"] == ""
    if training:
        page = PageData(trace)
        event = trace.all("dense.assign" if parts is RETINANET else "roi.sample")[0]
        if parts is RETINANET:
            assert event["gt_classes"].tolist() == [0, 0]
            assert page.gt_classes(event) == [1, 1]
        else:
            own = {page.own_class_name(int(c)) for c in event["classes"][event["foreground"]]}
            assert own == {"cat"}
    assert "cat" in render(trace)
