from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from msiam.errors import RecipeError
from msiam.towers.inference import How, for_inference


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(RecipeError, match="found 'int8'; give auto, fp32 or bf16"):
        How(precision="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [True, False])
def test_the_module_comes_back_as_it_was(training: bool) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train(training)
    with pytest.raises(ZeroDivisionError), for_inference(module):
        assert not module.training and not module[1].training
        raise ZeroDivisionError
    assert module.training == module[1].training == training
    assert "forward" not in vars(module[0])


def test_bf16_is_coarser_and_near() -> None:
    module, states = nn.Linear(64, 64), torch.randn(10, 64)
    with torch.no_grad():
        exact = module(states)
        for optimize in (True, False):
            with for_inference(module, How(precision="bf16", optimize=optimize)):
                found = module(states)
            assert found.dtype == torch.bfloat16
            assert nn.functional.cosine_similarity(found.float(), exact).min() > 0.999


def test_threads_that_embed_with_one_module_do_not_disturb_each_other() -> None:
    module = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5), nn.Linear(16, 4)).train()
    states = torch.randn(5, 16)

    @torch.no_grad()
    def embed(_: int) -> torch.Tensor:
        with for_inference(module):
            return module(states)

    first = embed(0)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(embed, range(200)):
            torch.testing.assert_close(found, first)
    assert module.training
