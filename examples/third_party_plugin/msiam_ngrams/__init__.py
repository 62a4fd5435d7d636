"""The `ngrams` encoder: texts as bags of character n-grams."""

from msiam import hookimpl


@hookimpl
def msiam_encoders(register):
    register(
        "ngrams",
        "msiam_ngrams.encoder:NgramEncoder",
        modality="text",
        summary="the mean of hashed character n-grams (fastText, 2017)",
    )
