"""Which anchors and locations get to learn the boxes of a dataset, before a training.

Read in this order: `objects` (the boxes at the size that the model sees), `schemes` (anchors and
assigners as models build them), `measure`, `proposal`, `report`.
"""
