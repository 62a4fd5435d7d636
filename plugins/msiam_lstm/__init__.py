"""The `lstm` encoder: texts through a vocabulary learnt from the data and a (Bi)LSTM."""

from msiam import hookimpl


@hookimpl
def msiam_encoders(register):
    register(
        "lstm",
        "msiam_lstm.encoder:LstmEncoder",
        modality="text",
        summary="words or byte pairs learnt from the data, or word vectors; (Bi)LSTM; pooling",
    )
