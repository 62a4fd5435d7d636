"""Their side of benchmarks/speed.py: what people use instead, each imported only when asked for."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from speed_plans import MINILM, Encoding, Job, Training

BATCH = 64  # of pictures


def sentence_transformer(**options: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    from msiam import resolve

    return SentenceTransformer(str(resolve(MINILM)), device="cpu", **options)


def encode_texts(job: Job, plan: Encoding) -> None:
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[plan.precision]
    model = sentence_transformer(model_kwargs={"dtype": dtype})
    plan.serve(job, lambda texts: model.encode(texts, show_progress_bar=False))


def encode_pictures(job: Job, plan: Encoding) -> None:
    """The network of ours in the loop that torchvision's and PyTorch's pages show."""
    import torch
    from PIL import Image
    from speed_ours import PICTURE
    from torch.utils.data import DataLoader
    from torchvision.transforms import v2

    from msiam import Model

    model = Model({"tower": PICTURE}, {"item": "tower"})
    model.tower("tower").fit([])
    encoder = model.tower("tower").encoder
    network = encoder.network.eval()
    transform = v2.Compose(
        [
            v2.Resize((encoder.side, encoder.side), interpolation=v2.InterpolationMode.BICUBIC),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(encoder.mean * 3, encoder.std * 3),
        ]
    )

    class Pictures(torch.utils.data.Dataset):
        def __init__(self, files: list[bytes]) -> None:
            self.files = files

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, number: int) -> torch.Tensor:
            return transform(Image.open(io.BytesIO(self.files[number])).convert("RGB"))

    @torch.inference_mode()
    def encode(files: list[bytes]) -> np.ndarray:
        loader = DataLoader(Pictures(files), batch_size=BATCH, num_workers=2)
        return torch.cat([network(batch) for batch in loader]).numpy()

    plan.serve(job, encode)


def train(job: Job, plan: Training) -> None:
    """SentenceTransformerTrainer, with CoSENTLoss where ours is cosent, else the in-batch loss."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import (
        CoSENTLoss,
        MultipleNegativesRankingLoss,
    )

    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    rows = job.read("train.json")
    columns = {c: [row[c] for row in rows] for c in plan.columns}
    if plan.label:
        columns["label"] = [float(row[plan.label] == 1) for row in rows]

    def trained(seed: int) -> Callable[[list[str]], np.ndarray]:
        model = sentence_transformer(config_kwargs=off if plan.check else {})
        if plan.tower.get("freeze"):
            _with_head(job, model)
        loss = (
            CoSENTLoss(model)
            if plan.loss["name"] == "cosent"
            else MultipleNegativesRankingLoss(model, scale=1 / plan.loss["temperature"])
        )
        trainer = SentenceTransformerTrainer(
            model,
            SentenceTransformerTrainingArguments(
                output_dir=str(job.folder / "theirs"),
                per_device_train_batch_size=plan.batch,
                max_steps=plan.steps,
                learning_rate=plan.rate,
                warmup_steps=round(plan.warmup * plan.steps),
                lr_scheduler_type="linear",
                bf16=plan.precision == "bf16",
                use_cpu=True,
                logging_steps=1 if plan.check else 500,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=seed,
            ),
            Dataset.from_dict(columns),
            loss=loss,
        )
        trainer.train()
        return lambda texts: model.encode(texts, show_progress_bar=False)

    plan.serve(job, trained)


def _with_head(job: Job, model: Any) -> None:
    """Nothing of the model learns but a linear layer, which begins as ours does."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense

    from msiam import Model

    head = Model.load(job.folder / "model").tower("tower").head
    dense = Dense(head.in_features, head.out_features, activation_function=torch.nn.Identity())
    dense.linear.load_state_dict(head.state_dict())
    model.requires_grad_(False)
    model.insert(2, dense)  # between the pooling and the norm


def train_lstm(job: Job, plan: Training) -> None:
    """The modules of ours in a loop as people write one: each column padded by itself."""
    import torch
    from speed_clock import Clock
    from torch import nn
    from torch.nn.utils.rnn import pad_sequence
    from torch.utils.data import DataLoader

    from msiam import Model

    tower = Model.load(job.folder / "model").tower("tower").train()
    encoder: Any = tower.encoder
    rows = job.read("train.json")
    tokens = [encoder.prepare([row[c] for row in rows]) for c in plan.columns]
    same = torch.tensor([row[plan.label] == 1 for row in rows])

    def padded(numbers: list[int], column: int) -> tuple[torch.Tensor, torch.Tensor]:
        texts = [torch.from_numpy(tokens[column][number]).long() for number in numbers]
        return pad_sequence(texts, batch_first=True), torch.tensor([len(text) for text in texts])

    def collate(numbers: list[int]) -> Any:
        return padded(numbers, 0), padded(numbers, 1), same[numbers]

    def embed(words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        states = encoder.reader(encoder.dropout(encoder.embedding(words)), lengths)
        return nn.functional.normalize(tower.head(encoder.pooling(states, lengths)), dim=1)

    loader = DataLoader(
        range(len(rows)),
        batch_size=plan.batch,
        shuffle=True,
        collate_fn=collate,
    )
    learns = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=plan.rate, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / plan.steps)
    clock = Clock(job.channel, plan.warm, plan.check)
    step = 0
    while step < plan.steps:
        for left, right, match in loader:
            clock.on_step_begin()
            distance = (embed(*left) - embed(*right)).norm(dim=1)
            push = (1 - distance).clamp(min=0)
            loss = 0.5 * torch.where(match, distance, push).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learns, 1.0)
            optimizer.step()
            scheduler.step()
            clock.on_log(None, None, None, {"loss": loss})
            clock.on_step_end()
            step += 1
            if step == plan.steps:
                break
    clock.on_train_end()
