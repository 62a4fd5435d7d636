"""Training on transformers.Trainer: our batches, our evaluation, its everything else."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.training_args import OptimizerNames

from msiam.data.batches import Collator
from msiam.data.samplers import BatchSampler
from msiam.errors import RecipeError, TrainingError, one_of
from msiam.losses.base import Loss
from msiam.recipe import Train
from msiam.towers.device import pick_device, use_bf16
from msiam.training import processes
from msiam.training.cpu import FastLayers, clip, memory_kept
from msiam.training.objective import Objective


class Trainer(transformers.Trainer):
    """transformers.Trainer, fed by a batch sampler, and evaluated by a function of ours.

    Args:
        fast: layers that a CPU has a faster way for go that way; not where they are compiled.
    """

    def __init__(
        self,
        objective: Objective,
        args: transformers.TrainingArguments,
        collator: Collator,
        sampler: BatchSampler,
        validate: Callable[[], dict[str, float]],
        fast: bool = True,
        **options: Any,
    ) -> None:
        # The eval_dataset has only to be there: evaluate() asks ``validate`` and reads none of it.
        rows = sampler.rows
        super().__init__(objective, args, collator, rows, eval_dataset=rows, **options)
        self.objective: Objective = objective
        self.sampler = sampler
        self.validate = validate
        self.fast = FastLayers(objective) if fast else contextlib.nullcontext

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with memory_kept():
            return super().train(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self.fast():
            return super().training_step(*args, **kwargs)

    def _clip_grad_norm(self, model: Any) -> Any:
        accelerator = self.accelerator
        if accelerator.device.type == "cpu" and accelerator.num_processes == 1:
            return clip(model.parameters(), self.args.max_grad_norm)
        return super()._clip_grad_norm(model)

    def get_train_dataloader(self) -> DataLoader:
        loader = DataLoader(
            self.sampler.rows, batch_sampler=self.sampler, collate_fn=self.data_collator
        )
        # The sampler has given this process its share of each batch already.
        return prepare_data_loader(
            loader, self.accelerator.device, num_processes=1, process_index=0, put_on_device=True
        )

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        value = processes.mean(loss[0] if isinstance(loss, tuple) else loss)
        if not torch.isfinite(value):
            counts = processes.row_counts(inputs["rows"])
            rows = processes.gather(inputs["rows"], counts).tolist()
            raise TrainingError(
                f"step {self.state.global_step + 1} (epoch {self.state.epoch:.2f}): the loss is "
                f"{value.item()} on the batch of rows {rows[:8]}{' …' if len(rows) > 8 else ''}; "
                "look at these rows, or lower train.learning_rate; the last checkpoint is kept"
            )
        return loss

    def take_finished(self, checkpoint: Path) -> bool:
        """If a checkpoint is of the last step, take the best weights, for nothing is left to train.

        transformers.Trainer would take one step more.
        """
        state = transformers.TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if state.global_step < self.args.max_steps:
            return False
        self.state = state
        best = Path(state.best_model_checkpoint or checkpoint).name  # the run may have been moved
        self._load_from_checkpoint(str(checkpoint.with_name(best)))
        return True

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        found = processes.from_main(self.validate)
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Of equal ones the last is the best: where a figure is at its ceiling, it has learnt more.

        transformers.Trainer would keep the first.
        """
        if metrics[f"{self.args.metric_for_best_model}"] == self.state.best_metric:
            self.state.best_metric = None
        return super()._determine_best_metric(metrics, trial)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            make, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = make(parameter_groups(self.objective, self.args), **options)
        return self.optimizer


def parameter_groups(objective: Objective, args: Any) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay.

    An encoder has its tower's own rate where the recipe gives one, and so has what a loss learns.
    Biases, norms and a loss's scalars (one dimension or none) do not decay.
    """
    rates: dict[int, float] = {}
    for name in objective.model.towers:
        tower = objective.model.tower(name)
        if tower.options.learning_rate is not None:
            rates |= dict.fromkeys(map(id, tower.encoder.parameters()), tower.options.learning_rate)
    for loss in objective.loss.modules():
        own = getattr(loss.options, "learning_rate", None) if isinstance(loss, Loss) else None
        if own is not None:
            rates |= dict.fromkeys(map(id, loss.parameters()), own)
    groups: dict[tuple[float, float], list[Any]] = {}
    for parameter in objective.parameters():
        if parameter.requires_grad:
            rate = rates.get(id(parameter), args.learning_rate)
            decay = args.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()]


def check_optimizer(name: str) -> None:
    """Whether transformers has an optimizer, and this machine what it needs.

    Raises:
        RecipeError: it does not.
    """
    known = [known.value for known in OptimizerNames if not known.value.startswith(NEED_MORE)]
    if name not in known:
        raise RecipeError(f"train.optimizer: there is no '{name}'; {one_of(name, known)}")
    arguments = transformers.TrainingArguments(output_dir="unused", optim=name, report_to="none")
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments)
    except (ImportError, ValueError) as error:
        raise RecipeError(
            f"train.optimizer: {name} cannot be had here ({' '.join(str(error).split())[:160]}); "
            "adamw_torch_fused, adafactor, sgd, adagrad and rmsprop need nothing else"
        ) from error


#: Optimizers that need to know layers by name, or to be told before each evaluation.
NEED_MORE = ("galore", "apollo", "lomo", "adalomo", "schedule_free")


def training_arguments(
    settings: Train, folder: Path, steps_per_epoch: int, metric: str, resumed: bool = False
) -> transformers.TrainingArguments:
    """What transformers.Trainer is told. Checkpoints are taken whenever validation is looked at."""
    steps = settings.max_steps or math.ceil(settings.epochs * steps_per_epoch)
    every = max(1, math.ceil(steps / settings.evaluations))
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=math.ceil(settings.batch_size / processes.count()),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=math.ceil(settings.warmup * steps),
        lr_scheduler_type=SCHEDULES[settings.schedule],
        optim=settings.optimizer,
        bf16=use_bf16(settings.precision, pick_device()),
        use_cpu=not torch.accelerator.is_available(),
        eval_strategy=IntervalStrategy.STEPS,
        # A baseline for the report, and what cannot be measured fails at once. Not when resumed:
        # early stopping would count the same evaluation twice.
        eval_on_start=not resumed,
        eval_steps=every,
        save_strategy=SaveStrategy.STEPS,
        save_steps=every,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{metric}",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(1, min(every, math.ceil(steps / 100))),
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        seed=settings.seed,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # On several GPUs one process takes one: DataParallel would cut items and rows apart.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


#: What transformers calls our schedules. Its "constant" has no warm-up.
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
