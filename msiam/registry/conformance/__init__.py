"""The tests that every encoder, loss, miner and index backend must pass.

They are for the test suite of whoever writes a plugin::

    from msiam.registry.conformance import check_encoder

    def test_my_encoder():
        check_encoder(MyEncoder, {"width": 8}, ["a text", "another", "a third and longer one"])

and for ``msiam plugins --check``, which runs them on everything that is registered. A check
returns nothing, or raises an ``AssertionError`` that says which part of the contract is broken.

This package stands above towers, losses, mining and gallery, whose contracts it tests; nothing
imports it but the command line and tests.
"""

from msiam.registry.conformance.backend import check_backend
from msiam.registry.conformance.encoder import check_encoder
from msiam.registry.conformance.loss import check_loss
from msiam.registry.conformance.miner import check_miner
from msiam.registry.conformance.verdicts import Verdict, check_all, check_named

__all__ = [
    "Verdict",
    "check_all",
    "check_backend",
    "check_encoder",
    "check_loss",
    "check_miner",
    "check_named",
]
