"""What all image encoders share, tried on the small one."""

import itertools

import numpy as np
import pydantic
import pytest
import torch
from msiam_vision.augment import NOTHING, quasi_random
from msiam_vision.augment import augment as vary
from msiam_vision.image_encoder import ImageEncoder
from msiam_vision.small_cnn import SmallCNN
from torch import nn

from msiam import Rejected


class Pixels(ImageEncoder):
    """The network's input itself, as a vector."""

    mean, std = (0.5,), (0.25,)

    @property
    def dim(self):
        return self.options.size**2 * self.channels

    def build(self):
        return nn.Flatten()


def encoder(**options):
    made = Pixels(Pixels.Options(**options))
    made.fit([])
    return made


def noise(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_evaluation_sees_the_middle_normalised():
    made = encoder(size=16, fit="crop").eval()
    feature = made.prepare([noise()])[0]
    assert made.side == 18 and feature.shape == (18, 18, 3)
    got = made(made.collate([feature])).reshape(3, 16, 16)
    expected = (feature[1:17, 1:17].astype(np.float32) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(got.numpy(), expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_nothing_is_cut_off_unless_asked_for(fit):
    assert encoder(size=16, fit=fit).side == 16


@pytest.mark.parametrize("training", [False, True])
def test_pixels_may_be_floats_and_have_a_gradient(training):
    made = encoder(size=16, fit="crop").train(training)
    whole = made.collate(made.prepare([noise(), noise(30, 30)]))["pixels"]
    state = torch.get_rng_state()
    expected = made({"pixels": whole})
    torch.set_rng_state(state)
    given = whole.float().requires_grad_(True)
    got = made({"pixels": given})
    assert torch.equal(got, expected) and torch.equal(given.detach(), whole.float())
    (gradient,) = torch.autograd.grad(got.sum(), given)
    assert gradient.abs().sum() > 0
    if not training:  # each pixel of the middle counts once, divided by 255 and by std
        assert gradient[:, 1:17, 1:17].allclose(torch.tensor(1 / 255 / 0.25))
        assert gradient.sum().isclose(gradient[:, 1:17, 1:17].sum())


def test_training_varies_and_the_generator_replays_it():
    made = encoder(size=16).train()
    batch = made.collate(made.prepare([noise(), noise(30, 30)]))
    state = torch.get_rng_state()
    first, second = made(batch), made(batch)
    torch.set_rng_state(state)
    assert torch.equal(made(batch), first) and not torch.equal(first, second)
    made.eval()
    assert torch.equal(made(batch), made(batch))


def test_augment_false_makes_training_like_evaluation():
    made = encoder(size=16, augment=False)
    assert made.options.augment == NOTHING
    batch = made.collate(made.prepare([noise()]))
    assert torch.equal(made.train()(batch), made.eval()(batch))


def test_the_network_gets_channels_last_whatever_the_weights_are():
    made = encoder(size=16)
    seen = []
    made.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = made.collate(made.prepare([noise(), noise(50, 20)]))
    made.train()(batch)
    made.eval()(batch)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    made.to(torch.bfloat16)(batch)
    assert seen[-1].dtype == torch.bfloat16


def test_what_is_rejected_stays_in_its_place():
    got = encoder(size=16).prepare([noise(), "/nowhere.png", noise()])
    assert [isinstance(g, Rejected) for g in got] == [False, True, False]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"sise": 3}, ("sise",)),
        ({"fit": "squash"}, ("fit",)),
        ({"size": 2}, ("size",)),
        ({"augment": {"flop": True}}, ("augment", "flop")),
        ({"augment": True}, ("augment",)),
    ],
)
def test_wrong_options_are_refused_by_their_key(options, where):
    with pytest.raises(pydantic.ValidationError) as error:
        Pixels.Options(**options)
    assert error.value.errors()[0]["loc"] == where


def test_a_picture_has_four_positions_where_turns_are_learnt():
    assert encoder(size=16).variants == 1
    made = encoder(size=16, turns=True)
    (feature,) = made.prepare([noise()])
    turned = [feature, *(made.variant(feature, number) for number in range(1, made.variants))]
    assert made.variants == 4
    assert all((np.rot90(one) == two).all() for one, two in itertools.pairwise(turned))
    assert len(made.collate(turned)["pixels"].unique(dim=0)) == 4


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_a_picture_seen_in_several_ways_is_the_mean_of_them(fit):
    augment = {"shift": 0.1, "zoom": 0.3, "rotate": 20, "shear": 0.2}
    made, plain = (
        SmallCNN(SmallCNN.Options(size=32, fit=fit, augment=augment, views=views))
        for views in (5, 1)
    )
    made.fit([])
    plain.fit([])
    plain.load_state_dict(made.state_dict())
    assert made.fingerprint() != plain.fingerprint()
    batch = made.collate(made.prepare([noise(), noise()[::-1].copy()]))
    made.eval(), plain.eval()
    got = made(batch)
    pixels = batch["pixels"].permute(0, 3, 1, 2) / 255
    views = [pixels[..., 2:-2, 2:-2] if fit == "crop" else pixels]
    views += [vary(pixels, 32, made.options.augment, draw) for draw in quasi_random(4)]
    own = [plain.network((view - 0.5) / 0.25) for view in views]
    assert torch.allclose(got, torch.stack(own).mean(0), atol=1e-5)
    assert not torch.allclose(got, own[0], atol=1e-3)
    assert torch.equal(got, made(batch))
    assert torch.allclose(got[:1], made({"pixels": batch["pixels"][:1]}), atol=1e-5)
    assert torch.equal(own[0], plain(batch))
    for one in (made, plain):
        one.train()
        torch.manual_seed(1)
        assert (trained := one(batch)).shape == got.shape
    torch.manual_seed(1)
    assert torch.allclose(trained, made(batch), atol=1e-5)


def test_views_that_only_change_colours_see_what_the_picture_shows():
    """Nothing moves: not by the half pixel either that a crop's odd margin would make of it."""
    still = {"shift": 0, "zoom": 0, "grow": 0, "colour": 1e-6}
    made = SmallCNN(SmallCNN.Options(size=40, fit="crop", views=3, augment=still))
    first, *others = made._views(made.collate(made.prepare([noise()]))["pixels"])
    assert len(others) == 2
    assert all(torch.allclose(first, other, atol=1e-4) for other in others)


def test_each_view_has_its_mirror_image():
    options = {"size": 32, "augment": {"rotate": 20}}
    made, plain = (
        SmallCNN(SmallCNN.Options(**options, views=3, mirrored=mirrored))
        for mirrored in (True, False)
    )
    made.fit([])
    plain.fit([])
    plain.load_state_dict(made.state_dict())
    made.eval(), plain.eval()
    batch = made.collate(made.prepare([noise()]))
    sides = [
        plain.network((side - 0.5) / 0.25)
        for view in plain._views(batch["pixels"])
        for side in (view, view.flip(-1))
    ]
    assert torch.allclose(made(batch), torch.stack(sides).mean(0), atol=1e-5)


def test_views_of_which_none_varies_are_refused():
    with pytest.raises(pydantic.ValidationError, match="views: found 16, and with augment: false"):
        SmallCNN.Options(views=16, augment=False)


def test_a_mirrored_picture_is_the_mean_of_both_its_sides():
    made, plain = (
        SmallCNN(SmallCNN.Options(size=32, augment=False, mirrored=mirrored))
        for mirrored in (True, False)
    )
    made.fit([])
    plain.fit([])
    plain.load_state_dict(made.state_dict())
    assert made.fingerprint() != plain.fingerprint()
    both = made.collate(made.prepare([noise(), noise()[:, ::-1].copy()]))
    made.eval(), plain.eval()
    one, other = made(both)
    assert torch.allclose(one, other, atol=1e-6)  # whichever side is given
    assert torch.allclose(one, plain(both).mean(0), atol=1e-6)
    assert not torch.allclose(one, plain(both)[0], atol=1e-3)
    made.train(), plain.train()
    assert torch.equal(made(both), plain(both))
    assert made.split_states(torch.zeros(2, 3), both) is None
    assert plain.split_states(torch.zeros(2, 3), both) is not None
