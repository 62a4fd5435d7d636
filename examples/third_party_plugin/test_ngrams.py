from msiam_ngrams.encoder import NgramEncoder

from msiam.registry.conformance import check_encoder

TEXTS = ["a red heart", "été", "赤いハート", "a longer text that goes on and on"]


def test_it_keeps_the_contract_of_encoders():
    check_encoder(NgramEncoder, {}, TEXTS)
    check_encoder(NgramEncoder, {"width": 8, "shortest": 1, "longest": 2}, TEXTS)
