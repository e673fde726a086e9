from __future__ import annotations

import copy
import pickle

import pytest
import torch

from lucidet.structures import Boxes, Instances


def table(n: int = 3) -> Instances:
    return Instances(
        (8, 9),
        boxes=Boxes(torch.arange(4.0 * n).reshape(n, 4)),
        scores=torch.arange(float(n)),
        names=[str(i) for i in range(n)],
    )


def test_fields_are_attributes():
    objects = table()
    objects.classes = torch.zeros(3, dtype=torch.int64)
    assert objects.has("classes")
    assert objects.image_size == (8, 9)
    assert objects.get("scores") is objects.scores
    assert set(objects.get_fields()) == {"boxes", "scores", "names", "classes"}
    objects.remove("classes")
    assert not objects.has("classes")
    objects._note = "no field"
    assert len(objects.get_fields()) == 3
    assert "num_instances=3" in str(objects)


def test_errors_teach():
    objects = table()
    with pytest.raises(AttributeError, match="no field 'classes'; its fields: boxes, scores"):
        _ = objects.classes
    with pytest.raises(ValueError, match=r"'classes' has 2 entries, .* describes 3 objects"):
        objects.classes = torch.zeros(2)
    with pytest.raises(AttributeError, match="its fields: none"):
        Instances((1, 1)).remove("scores")
    with pytest.raises(NotImplementedError, match="without fields"):
        len(Instances((1, 1)))
    with pytest.raises(NotImplementedError, match="instances\\[i\\]"):
        iter(objects)
    with pytest.raises(IndexError, match="object 3 of an Instances with 3"):
        objects[3]


def test_the_only_field_may_change_its_length():
    objects = Instances((1, 1), scores=torch.zeros(2))
    objects.scores = torch.zeros(5)
    assert len(objects) == 5


@pytest.mark.parametrize(
    ("item", "names"),
    [
        (1, ["1"]),
        (-1, ["2"]),
        (slice(0, 2), ["0", "1"]),
        (torch.tensor([True, False, True]), ["0", "2"]),
        (torch.tensor([2, 0]), ["2", "0"]),
        (torch.zeros(3, dtype=torch.bool), []),
    ],
)
def test_indexing(item, names):
    chosen = table()[item]
    assert chosen.names == names
    assert chosen.scores.tolist() == [float(n) for n in names]
    assert len(chosen.boxes) == len(names)


def test_fields_of_later_tables_are_left_out():
    one, more = table(2), table(1)
    more.extra = [1]
    with pytest.warns(UserWarning, match=r"leaves out \['extra'\] of number 1"):
        both = Instances.cat([one, more])
    assert len(both) == 3
    assert both.get_fields().keys() == one.get_fields().keys()
    with pytest.raises(ValueError, match="number 1 has the fields"):
        Instances.cat([more, one])


def test_cat():
    both = Instances.cat([table(2), table(0), table(1)])
    assert both.names == ["0", "1", "0"]
    assert both.boxes.tensor.shape == (3, 4)
    one = table()
    assert Instances.cat([one]) is one
    with pytest.raises(ValueError, match="at least one"):
        Instances.cat([])
    with pytest.raises(ValueError, match=r"number 1 is of an image of \(1, 1\)"):
        Instances.cat([one, Instances((1, 1))])
    with pytest.raises(ValueError, match="number 1 has the fields"):
        Instances.cat([one, Instances((8, 9), scores=torch.zeros(1))])
    with pytest.raises(ValueError, match="can't join field 'x' of type tuple"):
        Instances.cat([Instances((1, 1), x=(1,)), Instances((1, 1), x=(2,))])


def test_to_copy_and_pickle():
    objects = table()
    assert objects.to("cpu").scores.equal(objects.scores)
    assert objects.to(torch.float64).scores.dtype == torch.float64
    for twin in (copy.deepcopy(objects), pickle.loads(pickle.dumps(objects))):
        assert twin.names == objects.names
        assert twin.boxes.tensor.equal(objects.boxes.tensor)
