"""Why a ground-truth box was missed, and where a detection comes from.

`explain_image` follows one image through a detector; `funnel` a dataset. Both give plain records,
which `lucidet.explain.record` describes: the pages and the text in the terminal show nothing else.
"""
