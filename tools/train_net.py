#!/usr/bin/env python
"""Train or evaluate a detector from a config file, with detectron2's arguments.

tools/train_net.py --num-gpus 8 --config-file configs/COCO-Detection/retinanet_R_50_FPN_1x.yaml
"""

from lucidet.engine import default_argument_parser, launch
from lucidet.engine.run import main

if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
