"""The `transformer` encoder: texts through any text model of transformers, pretrained or fresh."""

from msiam import hookimpl


@hookimpl
def msiam_encoders(register):
    register(
        "transformer",
        "msiam_transformer.encoder:TransformerEncoder",
        modality="text",
        summary="any transformers or sentence-transformers text model, or a fresh small one",
    )
