"""A good encoder passes, and each way to break the contract is noticed."""

from __future__ import annotations

import itertools
import random
import re

import numpy as np
import pydantic
import pytest
import torch

from msiam.errors import DataError, RecipeError
from msiam.registry.conformance import check_encoder
from msiam.registry.options import Options
from msiam.towers.encoder import Continuous, Encoder, Rejected

TEXTS = ["tweet", "chirp chirp", "кукушка", "a"]


class BirdOptions(Options):
    width: int = pydantic.Field(4, gt=0)


class Good(Encoder):
    Options = BirdOptions
    modality = "text"

    def fit(self, items):
        self.build()

    def restore(self, folder):
        self.build()

    def build(self):
        self.letters = torch.nn.EmbeddingBag(256, self.options.width)
        self.register_buffer("shift", torch.zeros(self.options.width))

    @property
    def dim(self):
        return self.options.width

    @classmethod
    def accepts(cls, item):
        return isinstance(item, str)

    def prepare(self, items):
        return [self.one(item) for item in items]

    def one(self, item):
        if not isinstance(item, str) or not item:
            return Rejected("is no song")
        return np.frombuffer(item.encode(errors="replace"), np.uint8).astype(np.int64)

    def collate(self, features):
        ends = np.cumsum([0] + [len(feature) for feature in features[:-1]])
        return {
            "letters": torch.from_numpy(np.concatenate(features)),
            "starts": torch.from_numpy(ends),
        }

    def forward(self, batch):
        return self.letters(batch["letters"], batch["starts"]) + self.shift

    def cost(self, feature):
        return len(feature)


def test_a_good_encoder_passes():
    check_encoder(Good, {}, TEXTS)
    check_encoder(Good, {"width": 9}, TEXTS)


class Layered(Good):
    """With two layers behind its letters."""

    def build(self):
        super().build()
        width = self.options.width
        self.first, self.second = torch.nn.Linear(width, width), torch.nn.Linear(width, width)

    def forward(self, batch):
        return self.second(self.first(super().forward(batch)).tanh())

    def layers(self):
        return [self.first, self.second]


def test_a_good_encoder_with_layers_passes():
    check_encoder(Layered, {}, TEXTS)


class Tones(Good):
    """A song as four numbers from 0 to 1, any of which may change a little."""

    continuous = Continuous("tones", 0.0, 1.0)

    def build(self):
        self.linear = torch.nn.Linear(4, self.options.width)

    def one(self, item):
        found = super().one(item)
        if isinstance(found, Rejected):
            return found
        return np.resize(found, 4).astype(np.float32) / 255

    def collate(self, features):
        return {"tones": torch.from_numpy(np.stack(features))}

    def forward(self, batch):
        return self.linear(batch["tones"])


def test_a_good_encoder_with_a_continuous_input_passes():
    check_encoder(Tones, {}, TEXTS)


# ---- What is noticed


class NamesNoTensor(Tones):
    continuous = Continuous("tunes", 0.0, 1.0)


class OutOfRange(Tones):
    continuous = Continuous("tones", 0.0, 0.1)


class RoundsTones(Tones):
    def forward(self, batch):
        return self.linear((batch["tones"] * 255).round() / 255)


class ShiftsTones(Tones):
    def forward(self, batch):
        tones = batch["tones"]
        if tones.requires_grad:
            with torch.no_grad():
                return self.linear(tones.add_(0.1) - 0.1) + 0 * tones.sum()
        return self.linear(tones)


class HearsFloatsOtherwise(Tones):
    def forward(self, batch):
        return self.linear(batch["tones"]) + float(batch["tones"].requires_grad)


class NoClass(torch.nn.Module):
    pass


class NoModality(Good):
    modality = None


class AnyOptions(BirdOptions):
    model_config = pydantic.ConfigDict(extra="allow")


class TakesAnything(Good):
    Options = AnyOptions


class TakenOptions(BirdOptions):
    head: int = 3
    dim: int = 4


class TakesTheTowers(Good):
    Options = TakenOptions


class ForgetfulOptions(BirdOptions):
    sizes: list[int] = pydantic.Field([1], exclude=True)


class Forgetful(Good):
    Options = ForgetfulOptions


class NoWidth(Good):
    dim = None


class Narrow(Good):
    dim = 3


class Refuses(Good):
    @classmethod
    def accepts(cls, item):
        return isinstance(item, bytes)


class Lists(Good):
    def one(self, item):
        found = super().one(item)
        return found if isinstance(found, Rejected) else found.tolist()


class Peeks(Good):
    """Features depend on the longest item of the call."""

    def prepare(self, items):
        longest = max((len(item) for item in items if isinstance(item, str)), default=0)
        found = super().prepare(items)
        return [f if isinstance(f, Rejected) else np.append(f, longest) for f in found]


class Random(Good):
    def one(self, item):
        found = super().one(item)
        return found if isinstance(found, Rejected) else found[torch.randperm(len(found)).numpy()]


class RandomlyTheSame(Good):
    def prepare(self, items):
        random.random()
        return super().prepare(items)


class Augments(Good):
    def one(self, item):
        found = super().one(item)
        return found[::-1] if self.training and not isinstance(found, Rejected) else found


class Raises(Good):
    def one(self, item):
        return np.frombuffer(item.encode(errors="replace"), np.uint8).astype(np.int64)


class RaisesForHalfALetter(Good):
    def one(self, item):
        if isinstance(item, str):
            item.encode()
        return super().one(item)


class Gullible(Good):
    def one(self, item):
        return super().one(item if isinstance(item, str) and item else "nothing")


class Talkative(Good):
    def one(self, item):
        found = super().one(item)
        return Rejected("no\nsong") if isinstance(found, Rejected) else found


class Costly(Good):
    def cost(self, feature):
        return len(feature) / 2


class Tuples(Good):
    def collate(self, features):
        return tuple(super().collate(features).values())

    def forward(self, batch):
        return self.letters(*batch)


class ChangesFeatures(Good):
    def collate(self, features):
        features[0][0] = 0
        return super().collate(features)


class Flat(Good):
    def forward(self, batch):
        return super().forward(batch).flatten()


class Broken(Good):
    def forward(self, batch):
        return super().forward(batch) / 0


class DependsOnTheBatch(Good):
    def forward(self, batch):
        found = super().forward(batch)
        return found - found.mean(0)


class Noisy(Good):
    def forward(self, batch):
        found = super().forward(batch)
        return found + 0.01 * torch.randn_like(found)


class Constant(Good):
    def fingerprint(self):
        return "bird"


class Restless(Good):
    counter = itertools.count()

    def fingerprint(self):
        return str(next(self.counter))


class ForgetsBuffers(Good):
    def fingerprint(self):
        return repr(self.letters.weight.detach().numpy().tobytes())


class NeverSaved(Good):
    """Learns what letters are worth, and writes it nowhere."""

    def fit(self, items):
        super().fit(items)
        self.worth = len("".join(items))

    def restore(self, folder):
        super().restore(folder)
        self.worth = 0

    def forward(self, batch):
        return super().forward(batch) + self.worth


class OtherWeights(Good):
    def restore(self, folder):
        self.build()
        self.more = torch.nn.Linear(1, 1)


class SecretVocabulary(Good):
    """The alphabet is saved, and left out of the fingerprint."""

    def fit(self, items):
        super().fit(items)
        self.alphabet = "".join(sorted(set("".join(items))))

    def save(self, folder):
        (folder / "alphabet").write_text(self.alphabet)

    def restore(self, folder):
        super().restore(folder)
        self.alphabet = (folder / "alphabet").read_text()

    def one(self, item):
        found = super().one(item)
        if isinstance(found, Rejected):
            return found
        return np.array([self.alphabet.find(letter) + 1 for letter in item], np.int64)


class NeedsItsFirstFolder(Good):
    def save(self, folder):
        (folder / "here").write_text(str(folder))

    def restore(self, folder):
        super().restore(folder)
        if (folder / "here").read_text() != str(folder):
            raise FileNotFoundError((folder / "here").read_text())


class BorrowsALayer(Layered):
    def layers(self):
        return [self.first, torch.nn.Identity()]


class NestsLayers(Layered):
    def layers(self):
        return [self, self.first]


class NamesALayerTwice(Layered):
    def layers(self):
        return [self.first, self.first]


class MixesLayersUp(Layered):
    def layers(self):
        return [self.second, self.first]


class RunsLayersBackwards(Layered):
    def forward(self, batch):
        return self.first(self.second(Good.forward(self, batch)))


class RepeatsALayer(Layered):
    def forward(self, batch):
        return self.second(super().forward(batch))


class SkipsALayer(Layered):
    def forward(self, batch):
        return self.second(Good.forward(self, batch))


class NoGradient(Good):
    def forward(self, batch):
        return super().forward(batch).detach()


class GradientsOfNothing(Good):
    def forward(self, batch):
        return super().forward(batch) * 0


class UnstableInTraining(Good):
    def forward(self, batch):
        return super().forward(batch) * (torch.inf if self.training else 1)


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (NoClass, "must be a subclass of msiam.Encoder"),
        (NoModality, "modality must be named"),
        (TakesAnything, "an unknown option is accepted"),
        (TakesTheTowers, "options ['dim', 'head'] can never be set"),
        (NoWidth, "dim is None after fit"),
        (Narrow, "forward gives (4, 4), not (4, 3)"),
        (Refuses, "accepts() is not True of items"),
        (Lists, "for item 0, not an array"),
        (Peeks, "depends on the items beside it"),
        (Random, "prepare draws random numbers; augment in forward"),
        (RandomlyTheSame, "prepare draws random numbers; augment in forward"),
        (Augments, "differs in training; augment in forward"),
        (Raises, "prepare raises AttributeError for None"),
        (RaisesForHalfALetter, "prepare raises UnicodeEncodeError for '\\ud800'"),
        (Gullible, "prepare reads None, which accepts() refuses"),
        (Talkative, "is not one line: 'no\\nsong'"),
        (Costly, "cost must be integers"),
        (Tuples, "collate must give a dict of tensors"),
        (ChangesFeatures, "changes the features it is given"),
        (Flat, "forward gives (16,), not (4, 4)"),
        (Broken, "forward: NaN or infinite"),
        (DependsOnTheBatch, "vectors of items alone, and in a batch: they differ by"),
        (Noisy, "they differ by"),
        (Constant, "the fingerprint stays the same when letters.weight changes"),
        (Restless, "the fingerprint changes by itself"),
        (ForgetsBuffers, "the fingerprint stays the same when shift changes"),
        (NeverSaved, "forward gives other vectors after restore"),
        (OtherWeights, "restore builds other weights"),
        (SecretVocabulary, "two encoders that prepare texts differently have one fingerprint"),
        (BorrowsALayer, "layers() has what is no part of the encoder"),
        (NestsLayers, "a layer is inside another one"),
        (NamesALayerTwice, "a layer is inside another one"),
        (MixesLayersUp, "layers() has another order than modules()"),
        (RunsLayersBackwards, "forward runs layers [1, 0], and not each of 2 once and in order"),
        (RepeatsALayer, "forward runs layers [0, 1, 1], and not each of 2 once"),
        (SkipsALayer, "forward runs layers [1], and not each of 2 once"),
        (NamesNoTensor, "continuous: collate gives no 'tunes'"),
        (OutOfRange, "continuous: 'tones' leaves 0 to 0.1"),
        (RoundsTones, "continuous: forward has no gradient with respect to 'tones'"),
        (ShiftsTones, "forward changes the floats it is given"),
        (HearsFloatsOtherwise, "vectors of the batch, and of it as floats: they differ by"),
        (NoGradient, "no gradient leads back from forward in training"),
        (GradientsOfNothing, "no weight has a gradient, though some require one"),
        (UnstableInTraining, "forward in training: NaN or infinite"),
    ],
)
def test_what_breaks_the_contract_is_noticed(cls, said):
    with pytest.raises(AssertionError, match=re.escape(said)) as raised:
        check_encoder(cls, {}, TEXTS)
    assert "\n" not in str(raised.value)


def test_an_option_that_is_lost_when_written_is_noticed():
    with pytest.raises(AssertionError, match="options change when written and read"):
        check_encoder(Forgetful, {"sizes": [2]}, TEXTS)


def test_an_encoder_may_not_need_the_folder_it_was_first_saved_in():
    with pytest.raises(FileNotFoundError):
        check_encoder(NeedsItsFirstFolder, {}, TEXTS)


def test_a_vocabulary_in_the_fingerprint_is_right():
    class OpenVocabulary(SecretVocabulary):
        def fingerprint(self):
            return super().fingerprint() + self.alphabet

    check_encoder(OpenVocabulary, {}, TEXTS)


def test_frozen_weights_need_no_gradient():
    class Frozen(Good):
        def build(self):
            super().build()
            self.requires_grad_(False)

    check_encoder(Frozen, {}, TEXTS)


def test_what_cannot_be_made_here_is_the_users_error():
    class Download(Good):
        def fit(self, items):
            raise DataError("its weights are not here")

    with pytest.raises(DataError, match="its weights are not here"):
        check_encoder(Download, {}, TEXTS)
    with pytest.raises(RecipeError, match="Good: widht: no such key"):
        check_encoder(Good, {"widht": 3}, TEXTS)


def test_random_numbers_drawn_before_go_on_afterwards():
    torch.manual_seed(0)
    right = torch.rand(3)
    torch.manual_seed(0)
    check_encoder(Good, {}, TEXTS)
    assert torch.equal(torch.rand(3), right)
