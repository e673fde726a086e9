"""The trainer that a config describes completely.

Names as `detectron2.engine.defaults.DefaultTrainer`: user code overrides its class methods.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from lucidet.checkpoint import DetectionCheckpointer
from lucidet.config import CfgNode
from lucidet.data import (
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    dataset_names,
)
from lucidet.data.detection_utils import build_augmentation
from lucidet.engine import hooks
from lucidet.engine.acceleration import faster_parts, wants_channels_last
from lucidet.engine.checks import (
    check_before_model,
    check_classes_of_test_data,
    check_classes_of_training_data,
    connect_datasets,
    report_unread_keys,
)
from lucidet.engine.default_hooks import WRITE_PERIOD, default_hooks
from lucidet.engine.describing import add_results, description_of_run
from lucidet.engine.effective_config import (
    amp_precision,
    for_one_batch,
    scale_to_processes,
    with_seed,
)
from lucidet.engine.interrupt import TrainingInterrupted, how_to_go_on
from lucidet.engine.parallel import create_ddp_model, has_unused_features
from lucidet.engine.run_lock import held
from lucidet.engine.run_state import RunState, first_iteration, report_resume
from lucidet.engine.setup import default_writers, on_available_device
from lucidet.engine.skipped_batches import OutOfMemorySkipper
from lucidet.engine.train_loop import AMPTrainer, SimpleTrainer
from lucidet.engine.trainer_base import HookBase, TrainerBase
from lucidet.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    PascalVOCDetectionEvaluator,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from lucidet.modeling import build_model
from lucidet.results.files import results_file_of
from lucidet.solver import (
    LRMultiplier,
    ModelEMA,
    OptimizerState,
    build_lr_scheduler,
    build_optimizer,
    scale_to_batch,
)
from lucidet.utils import comm
from lucidet.utils.events import EventWriter
from lucidet.utils.logger import setup_logger

__all__ = ["DefaultTrainer"]

logger = logging.getLogger(__name__)


class DefaultTrainer(TrainerBase):
    """Builds model, data, optimiser, schedule and hooks from a config, and trains.

    Example::

        trainer = DefaultTrainer(cfg)
        trainer.resume_or_load(resume=False)   # MODEL.WEIGHTS, or the last checkpoint
        trainer.train()

    Args:
        cfg: where ``SOLVER.REFERENCE_BATCH`` is set, rates and iterations follow the batch.

    Attributes:
        cfg: the config with the effective values.
        checkpointer: saves model, optimizer, scheduler, trainer (hooks) and, if used, ema.
        scheduler: of the learning rate.
    """

    # here for trainers that set themselves up without this class's __init__
    ema: ModelEMA | None = None
    ends_together = True
    _last_eval_results: Mapping[str, Any] | None = None
    _seed_is_set = False
    _optimizer_state: OptimizerState | None = None
    _skipper: OutOfMemorySkipper | None = None

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if not logging.getLogger("lucidet").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = self.auto_scale_workers(on_available_device(cfg), comm.get_world_size())
        scaled, table = scale_to_batch(cfg)
        if cfg.SOLVER.REFERENCE_BATCH > 0:
            logger.info("Effective values:\n%s", table)
        self._seed_is_set = cfg.SEED >= 0
        self.cfg = cfg = with_seed(scaled)

        # what needs no training is checked before the model takes its time and memory
        check_before_model(cfg, type(self), DefaultTrainer)
        data_loader = self.build_train_loader(for_one_batch(cfg))
        check_classes_of_training_data(cfg)  # class names are known once the annotations are read
        model = self.build_model(cfg)
        device = torch.device(cfg.MODEL.DEVICE)
        if wants_channels_last(cfg.SOLVER.CHANNELS_LAST, device, cfg.SOLVER.AMP.ENABLED):
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = self.build_optimizer(cfg, model)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.ema = ModelEMA(model, cfg.SOLVER.EMA.DECAY) if cfg.SOLVER.EMA.ENABLED else None
        unused = has_unused_features(model)
        self._optimizer_state = OptimizerState(
            optimizer, model, load_rates=not isinstance(self.scheduler, LRMultiplier)
        )
        model = create_ddp_model(model, broadcast_buffers=False, find_unused_parameters=unused)
        self._trainer = self._build_step(cfg, model, data_loader, optimizer)
        if self._trainer.black_box:
            self._trainer.black_box.config = cfg.dump()

        # weak: the checkpointer must not keep the trainer, and its memory, alive
        self.checkpointer = DetectionCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            optimizer=self._optimizer_state,
            scheduler=self.scheduler,
            trainer=RunState(weakref.proxy(self)),
        )
        me = weakref.proxy(self)
        self.checkpointer.describe = partial(description_of_run, me)
        if self.ema:
            self.checkpointer.add_checkpointable("ema", self.ema)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())
        # backward happens in the inner trainer; the hooks are registered here
        self._trainer.register_hooks(
            [hooks.CallbackHook(after_backward=lambda _: me.after_backward())]
        )
        self._skipper = OutOfMemorySkipper(cfg.SOLVER.SKIP_OUT_OF_MEMORY)
        report_unread_keys(cfg)

    @staticmethod
    def _build_step(
        cfg: CfgNode, model: nn.Module, data_loader: Any, optimizer: torch.optim.Optimizer
    ) -> SimpleTrainer:
        device = torch.device(cfg.MODEL.DEVICE)
        lone_on_cpu = device.type == "cpu" and comm.get_world_size() == 1
        common: dict[str, Any] = {
            "gather_metric_period": 1 if lone_on_cpu else WRITE_PERIOD,
            "accumulate": cfg.SOLVER.ACCUMULATE,
            "output_dir": cfg.OUTPUT_DIR,
            "compiled": faster_parts(model, device, cfg.SOLVER.COMPILE, cfg.SOLVER.CUDA_GRAPHS),
        }
        if not cfg.SOLVER.AMP.ENABLED:
            return SimpleTrainer(model, data_loader, optimizer, **common)
        precision = amp_precision(cfg.SOLVER.AMP.DTYPE, device)
        return AMPTrainer(model, data_loader, optimizer, precision=precision, **common)

    # ------------------------------------------------------------------------------- running

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint in OUTPUT_DIR if `resume` is set and there is one.

        Else ``MODEL.WEIGHTS`` is loaded, and the training starts from iteration 0. Processes that
        torchrun has started again always continue.
        """
        if comm.was_restarted() and not resume:
            logger.info("Started again by torchrun: resuming from the last checkpoint")
            resume = True
        self.resumed = resume
        found = resume and self.checkpointer.has_checkpoint()
        rest = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=found)
        if found:
            self.start_iter = first_iteration(rest, self.max_iter, self.cfg.OUTPUT_DIR)
            changes = self._optimizer_state.changes if self._optimizer_state else []
            report_resume(self.cfg, self.start_iter, changes)

    def train(self) -> Mapping[str, Any] | None:  # type: ignore[override]
        """Train from `start_iter` to `max_iter`; one training at a time in an OUTPUT_DIR.

        Returns:
            The results of the last evaluation, on the main process.
        """
        try:
            with held(self.cfg.OUTPUT_DIR):
                super().train(self.start_iter, self.max_iter)
        except TrainingInterrupted:
            logger.info(how_to_go_on(self.cfg.OUTPUT_DIR))
            raise
        if comm.is_main_process():
            from lucidet.results.page import show_results  # takes a second to import

            show_results(self.cfg.OUTPUT_DIR, dataset_names(self.cfg.DATASETS.TEST))
        if self._last_eval_results is None or not comm.is_main_process():
            return None
        add_results(os.path.join(self.cfg.OUTPUT_DIR, "model_final.pth"), self._last_eval_results)
        verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.max_iter = self.max_iter
        if self._skipper is not None and self._skipper.enabled:
            self._skipper.run(self._trainer.run_step, self.optimizer, self.iter)
        else:
            self._trainer.run_step()

    def settle(self) -> None:
        self._trainer.settle()

    def flush(self) -> None:
        self._trainer.flush()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @property
    def model(self) -> nn.Module:
        """The model, wrapped by DistributedDataParallel where there are several processes."""
        return self._trainer.model

    @model.setter
    def model(self, value: nn.Module) -> None:
        self._trainer.model = value

    @property
    def data_loader(self) -> Any:
        """The training data."""
        return self._trainer.data_loader

    @data_loader.setter
    def data_loader(self, value: Any) -> None:
        self._trainer.data_loader = value

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What updates the model."""
        return self._trainer.optimizer

    @optimizer.setter
    def optimizer(self, value: torch.optim.Optimizer) -> None:
        self._trainer.optimizer = value

    # ----------------------------------------------------------------------------- hooks

    def build_hooks(self) -> list[HookBase | None]:
        """Return the hooks in their order; override to add some.

        The checkpoint comes before evaluation, which might fail: a resumed run does again what came
        after its checkpoint in the same iteration. The writers come last.
        """
        return default_hooks(self)

    def _evaluate(self) -> Mapping[str, Any]:
        with self.weights_for_evaluation():
            self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    def weights_for_evaluation(self) -> AbstractContextManager[Any]:
        """Return a context in which the model has the weights to judge: averages, if kept."""
        return self.ema.applied(self.model) if self.ema else nullcontext()

    def build_writers(self) -> list[EventWriter]:
        """Return what writes the measurements."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    # ------------------------------------------------------------------ parts, to be overridden

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Return the model."""
        model = build_model(cfg)
        logger.debug("Model:\n%s", model)  # for the log file
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """Return the learning-rate schedule."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Return an endless iterable of training batches."""
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """Return the batches of one test data set."""
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_validation_loader(cls, cfg: CfgNode, dataset_names: list[str]) -> Any:
        """Return test data sets with their annotations, resized as for testing."""
        mapper = DatasetMapper(
            is_train=True,
            augmentations=build_augmentation(cfg, is_train=False),
            image_format=cfg.INPUT.FORMAT,
        )
        return build_detection_test_loader(cfg, dataset_names, mapper=mapper)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """Return the evaluator that belongs to the kind of data set.

        Raises:
            NotImplementedError: the metadata's ``evaluator_type`` is unknown.
            ValueError: the model's classes are not those of the data set.
        """
        check_classes_of_test_data(cfg, dataset_name)
        metadata = MetadataCatalog.get(dataset_name)
        kind = metadata.get("evaluator_type", None)
        if kind is None and {"dirname", "split", "year"} <= metadata.as_dict().keys():
            kind = "pascal_voc"  # `register_pascal_voc` leaves the choice to its caller
        names = dataset_names(cfg.DATASETS.TEST)
        folder = str(results_file_of(cfg.OUTPUT_DIR, names, dataset_name).parent)
        if kind == "coco":
            sigmas = cfg.TEST.KEYPOINT_OKS_SIGMAS
            return COCOEvaluator(dataset_name, output_dir=folder, kpt_oks_sigmas=sigmas)
        if kind == "pascal_voc":
            return PascalVOCDetectionEvaluator(dataset_name, output_dir=folder)
        raise NotImplementedError(
            f"data set {dataset_name!r} has evaluator_type {kind!r}, known are 'coco' and "
            f"'pascal_voc': set it in the metadata, or override {cls.__name__}.build_evaluator"
        )

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    ) -> Any:
        """Evaluate a model on each data set of ``DATASETS.TEST``.

        Args:
            cfg: the config.
            model: left in the mode it is in.
            evaluators: one for each data set; `build_evaluator`'s by default.

        Returns:
            ``{task: {metric: value}}``; by data set's name, where there are several.
        """
        connect_datasets(cfg, match=True)
        names = dataset_names(cfg.DATASETS.TEST)
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(names):
            raise ValueError(f"{len(names)} test data sets, but {len(evaluators)} evaluators")
        results: OrderedDict[str, Any] = OrderedDict()
        for index, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            try:
                evaluator = evaluators[index] if evaluators else cls.build_evaluator(cfg, name)
            except NotImplementedError as error:
                logger.warning("%s is not evaluated: %s", name, error)
                results[name] = {}
                continue
            results[name] = inference_on_dataset(
                model, loader, evaluator, optimize=cfg.TEST.OPTIMIZE
            )
            if comm.is_main_process():
                logger.debug("Evaluation results for %s in csv format:", name)
                print_csv_format(results[name])
        return results[names[0]] if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Return a config scaled from ``SOLVER.REFERENCE_WORLD_SIZE`` to `num_workers` processes.

        The batch, and with it learning rate, iterations and periods, change so that each process
        has as many images as before.

        Args:
            cfg: REFERENCE_WORLD_SIZE 0: it is returned as it is.
            num_workers: processes of this run.
        """
        return scale_to_processes(cfg, num_workers)
