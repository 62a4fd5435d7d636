"""Augmentation: what each part does, and that one state of the generator gives one result."""

import pydantic
import pytest
import torch
from msiam_vision.augment import NOTHING, Augmentation, augment, centre, quasi_random


def pictures(count=6, side=24, channels=3, seed=0):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def only(**options):
    return NOTHING.model_copy(update=options)


def test_nothing_is_the_middle():
    images = pictures(side=18)
    assert torch.equal(augment(images, 16, NOTHING), images[..., 1:17, 1:17])
    assert torch.equal(augment(images, 18, NOTHING), images)
    assert centre(images, 17).shape == (6, 3, 17, 17)


def test_quasi_random_draws_are_the_same_for_ever():
    """What a saved model with views computes hangs on them."""
    known = [[0.9258437, 0.3786604, 0.5012394], [0.5068776, 0.7676904, 0.1315407]]
    assert torch.allclose(quasi_random(2)[:, :3], torch.tensor(known), atol=1e-6)
    assert torch.equal(quasi_random(5)[:2], quasi_random(2)) and len(quasi_random(0)) == 0


ALL = Augmentation(
    shift=0.1,
    zoom=0.3,
    grow=0.2,
    rotate=20,
    shear=0.3,
    stretch=0.2,
    flip=True,
    colour=0.4,
    saturation=0.5,
    erase=0.5,
)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [Augmentation(), ALL])
def test_the_generator_decides_everything(options, channels):
    images = pictures(channels=channels)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, other = augment(images, 20, options), augment(images, 20, options)
    torch.set_rng_state(state)
    assert torch.equal(augment(images, 20, options), first)
    assert not torch.equal(first, other)
    assert first.shape == (6, channels, 20, 20)
    assert first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize(
    "name", ["rotate", "shear", "stretch", "colour", "saturation", "erase", "shift", "zoom"]
)
def test_each_part_varies_the_pictures(name):
    images = pictures()
    assert not torch.allclose(augment(images, 24, only(**{name: 0.5})), images, atol=1e-3)


def test_a_flip_mirrors_about_half():
    images = pictures(200, 8)
    got = augment(images, 8, only(flip=True))
    same = (got - images).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (got - images.flip(-1)).abs().amax((1, 2, 3)) < 1e-5
    assert (same ^ mirrored).all() and 60 < mirrored.sum() < 140


def test_a_shift_moves_no_further_than_it_may():
    images = torch.zeros(100, 1, 32, 32)
    images[..., 16, 16] = 1
    got = augment(images, 32, only(shift=0.25))
    rows, columns = got.sum(3)[:, 0].argmax(1), got.sum(2)[:, 0].argmax(1)
    for places in (rows, columns):
        assert (places - 16).abs().max() <= 8
        assert places.min() < 12 and places.max() > 20


def test_what_moves_in_continues_the_edge():
    images = torch.ones(50, 3, 16, 16)
    torch.testing.assert_close(augment(images, 16, only(shift=0.5, grow=0.5, rotate=90)), images)


def test_zoom_stays_inside_and_grow_shows_all():
    line = torch.linspace(0, 1, 32).expand(200, 1, 32, 32)
    zoomed = augment(line, 32, only(zoom=0.5))
    width = zoomed[:, 0, 0, -1] - zoomed[:, 0, 0, 0]
    assert width.min() > 0.45 and width.min() < 0.6 and width.max() > 0.95
    assert zoomed[:, 0, 0, 0].max() > 0.3 and zoomed[:, 0, 0, -1].min() < 0.7
    grown = augment(line, 32, only(grow=0.5))
    assert grown[:, 0, 0, 0].max() < 0.05 and grown[:, 0, 0, -1].min() > 0.95


def test_erase_greys_a_square_in_its_share():
    got = augment(torch.ones(400, 3, 20, 20), 20, only(erase=0.25))
    holes = (got == 0.5).all(1)
    assert 60 < holes.any((1, 2)).sum() < 140
    assert holes.float().mean((1, 2)).max() <= 0.3
    assert ((got == 1) | (got == 0.5)).all()


def test_saturation_leaves_grey_alone_and_colour_the_hue():
    grey = pictures(channels=1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(augment(grey, 24, only(saturation=1.0)), grey)
    flat = torch.tensor([0.6, 0.3, 0.2]).reshape(1, 3, 1, 1).expand(20, 3, 8, 8)
    got = augment(flat, 8, only(colour=0.3))[:, :, 0, 0]
    assert (got[:, 0] > got[:, 1]).all() and (got[:, 1] > got[:, 2]).all()


@pytest.mark.parametrize("options", [{"flipp": True}, {"zoom": 1.0}, {"shift": -0.1}])
def test_wrong_options_are_refused(options):
    with pytest.raises(pydantic.ValidationError):
        Augmentation(**options)


def place_of(images):
    """Where the light of each row is on average, from -1 to 1: (B, rows)."""
    side = images.shape[-1]
    line = (torch.arange(side) * 2 + 1) / side - 1
    return (images[:, 0] * line).sum(-1) / images[:, 0].sum(-1)


def test_a_shear_leans_as_far_as_it_may_and_turns_nothing_else():
    images = torch.zeros(200, 1, 64, 64)
    images[..., 31:33] = 1
    places = place_of(augment(images, 64, only(shear=0.5)))
    heights = (torch.arange(64) * 2 + 1) / 64 - 1
    lean = -places[:, -1] / heights[-1]
    assert torch.allclose(places, -lean[:, None] * heights, atol=0.03)
    assert lean.abs().max() <= 0.52 and lean.min() < -0.4 and lean.max() > 0.4


def test_a_stretch_widens_as_much_as_it_flattens():
    images = torch.zeros(200, 1, 64, 64)
    images[..., 22:42, 22:42] = 1
    got = augment(images, 64, only(stretch=0.5))[:, 0]
    wide, high = got[:, 32].sum(-1), got[:, :, 32].sum(-1)
    assert torch.allclose(wide * high, torch.tensor(400.0), rtol=0.1)
    assert wide.max() <= 31 and wide.min() >= 12.5 and wide.max() > 28 and wide.min() < 15
