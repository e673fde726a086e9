"""What is known of the built-in data sets: names, ids and colours of their categories."""

from __future__ import annotations

import colorsys
from typing import Any

__all__ = [
    "COCO_CATEGORIES",
    "COCO_PERSON_KEYPOINT_FLIP_MAP",
    "COCO_PERSON_KEYPOINT_NAMES",
    "KEYPOINT_CONNECTION_RULES",
]

# COCO 2017: id:name; ids have gaps where categories were planned and not annotated
_COCO_NAMES = """
1:person 2:bicycle 3:car 4:motorcycle 5:airplane 6:bus 7:train 8:truck 9:boat 10:traffic_light
11:fire_hydrant 13:stop_sign 14:parking_meter 15:bench 16:bird 17:cat 18:dog 19:horse 20:sheep
21:cow 22:elephant 23:bear 24:zebra 25:giraffe 27:backpack 28:umbrella 31:handbag 32:tie
33:suitcase 34:frisbee 35:skis 36:snowboard 37:sports_ball 38:kite 39:baseball_bat
40:baseball_glove 41:skateboard 42:surfboard 43:tennis_racket 44:bottle 46:wine_glass 47:cup
48:fork 49:knife 50:spoon 51:bowl 52:banana 53:apple 54:sandwich 55:orange 56:broccoli 57:carrot
58:hot_dog 59:pizza 60:donut 61:cake 62:chair 63:couch 64:potted_plant 65:bed 67:dining_table
70:toilet 72:tv 73:laptop 74:mouse 75:remote 76:keyboard 77:cell_phone 78:microwave 79:oven
80:toaster 81:sink 82:refrigerator 84:book 85:clock 86:vase 87:scissors 88:teddy_bear
89:hair_drier 90:toothbrush
"""


def category_colors(count: int) -> list[list[int]]:
    """Return `count` RGB colours (0..255) that differ well from their neighbours.

    >>> category_colors(2)
    [[242, 73, 73], [73, 122, 242]]
    """
    golden = 0.618034  # steps of the golden ratio never come near a hue used shortly before
    colors = []
    for k in range(count):
        brightness = (0.95, 0.75, 0.85)[k % 3] if count > 3 else 0.95
        rgb = colorsys.hsv_to_rgb(k * golden % 1.0, 0.7, brightness)
        colors.append([round(255 * value) for value in rgb])
    return colors


def _coco_categories() -> list[dict[str, Any]]:
    entries = [entry.split(":") for entry in _COCO_NAMES.split()]
    colors = category_colors(len(entries))
    return [
        {"id": int(id_), "name": name.replace("_", " "), "isthing": 1, "color": color}
        for (id_, name), color in zip(entries, colors, strict=True)
    ]


COCO_CATEGORIES: list[dict[str, Any]] = _coco_categories()


def _get_coco_instances_meta() -> dict[str, Any]:
    return {
        "thing_dataset_id_to_contiguous_id": {c["id"]: k for k, c in enumerate(COCO_CATEGORIES)},
        "thing_classes": [c["name"] for c in COCO_CATEGORIES],
        "thing_colors": [c["color"] for c in COCO_CATEGORIES],
    }


#: COCO's keypoints of a person, in the order of its files
COCO_PERSON_KEYPOINT_NAMES = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)

_SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")

#: pairs that change places in a mirror image
COCO_PERSON_KEYPOINT_FLIP_MAP = tuple((f"left_{part}", f"right_{part}") for part in _SIDED)


def _connection_rules() -> list[tuple[str, str, tuple[int, int, int]]]:
    """Return the lines of the skeleton: head, then arms, then legs, each with its RGB color."""
    limbs = [("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")]
    pairs = [
        ("left_ear", "left_eye"),
        ("right_ear", "right_eye"),
        ("left_eye", "nose"),
        ("nose", "right_eye"),
        ("left_shoulder", "right_shoulder"),
        *((f"{side}_{a}", f"{side}_{b}") for a, b in limbs[:2] for side in ("left", "right")),
        ("left_hip", "right_hip"),
        *((f"{side}_{a}", f"{side}_{b}") for a, b in limbs[2:] for side in ("left", "right")),
    ]
    colors = category_colors(len(pairs))
    return [(a, b, (r, g, k)) for (a, b), (r, g, k) in zip(pairs, colors, strict=True)]


#: (name, name, RGB color) of each line that joins two keypoints of a person
KEYPOINT_CONNECTION_RULES = _connection_rules()

#: the classes of Cityscapes that have instances: the id in its files -> name
CITYSCAPES_THINGS = {
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}


def _get_coco_person_meta() -> dict[str, Any]:
    return {
        "thing_classes": ["person"],
        "keypoint_names": list(COCO_PERSON_KEYPOINT_NAMES),
        "keypoint_flip_map": list(COCO_PERSON_KEYPOINT_FLIP_MAP),
        "keypoint_connection_rules": KEYPOINT_CONNECTION_RULES,
    }


# COCO's panoptic regions without instances: id:name
_COCO_STUFF = """
92:banner 93:blanket 95:bridge 100:cardboard 107:counter 109:curtain 112:door-stuff 118:floor-wood
119:flower 122:fruit 125:gravel 128:house 130:light 133:mirror-stuff 138:net 141:pillow
144:platform 145:playingfield 147:railroad 148:river 149:road 151:roof 154:sand 155:sea 156:shelf
159:snow 161:stairs 166:tent 168:towel 171:wall-brick 175:wall-stone 176:wall-tile 177:wall-wood
178:water-other 180:window-blind 181:window-other 184:tree-merged 185:fence-merged
186:ceiling-merged 187:sky-other-merged 188:cabinet-merged 189:table-merged
190:floor-other-merged 191:pavement-merged 192:mountain-merged 193:grass-merged 194:dirt-merged
195:paper-merged 196:food-other-merged 197:building-other-merged 198:rock-merged
199:wall-other-merged 200:rug-merged
"""

_CITYSCAPES_STUFF = (
    "road sidewalk building wall fence pole traffic_light traffic_sign vegetation terrain sky "
    "person rider car truck bus train motorcycle bicycle"
)


def _coco_stuff() -> dict[int, str]:
    return {int(id_): name for id_, name in (entry.split(":") for entry in _COCO_STUFF.split())}


def _get_coco_panoptic_meta() -> dict[str, Any]:
    """Things and stuff in one list of 133, as drawers of panoptic results expect it."""
    things, stuff = _get_coco_instances_meta(), _coco_stuff()
    names = [*things["thing_classes"], *stuff.values()]
    colors = category_colors(len(names))
    return {
        "thing_classes": names,
        "thing_colors": colors,
        "stuff_classes": list(names),
        "stuff_colors": list(colors),
        "thing_dataset_id_to_contiguous_id": things["thing_dataset_id_to_contiguous_id"],
        "stuff_dataset_id_to_contiguous_id": {
            id_: k for k, id_ in enumerate(stuff, len(things["thing_classes"]))
        },
    }


def _get_coco_panoptic_separated_meta() -> dict[str, Any]:
    """80 things, and 54 stuff classes of which the first is all things together."""
    things, stuff = _get_coco_instances_meta(), _coco_stuff()
    names = [name.replace("-other", "").replace("-merged", "") for name in stuff.values()]
    of_things = dict.fromkeys(things["thing_dataset_id_to_contiguous_id"], 0)
    return {
        **things,
        "stuff_classes": ["things", *names],
        "stuff_colors": category_colors(len(names) + 1),
        "stuff_dataset_id_to_contiguous_id": {
            **{id_: k for k, id_ in enumerate(stuff, 1)},
            **of_things,
        },
    }


def _get_cityscapes_meta() -> dict[str, Any]:
    return {
        "thing_classes": list(CITYSCAPES_THINGS.values()),
        "stuff_classes": [name.replace("_", " ") for name in _CITYSCAPES_STUFF.split()],
    }


_FAMILIES = {
    "coco": _get_coco_instances_meta,
    "coco_person": _get_coco_person_meta,
    "coco_panoptic_standard": _get_coco_panoptic_meta,
    "coco_panoptic_separated": _get_coco_panoptic_separated_meta,
    "cityscapes": _get_cityscapes_meta,
}


def _get_builtin_metadata(dataset_name: str) -> dict[str, Any]:
    """Return the metadata of a family of datasets, such as "coco" or "cityscapes"."""
    if dataset_name not in _FAMILIES:
        known = ", ".join(map(repr, _FAMILIES))
        raise KeyError(f"no built-in metadata for {dataset_name!r}; known: {known}")
    return _FAMILIES[dataset_name]()
