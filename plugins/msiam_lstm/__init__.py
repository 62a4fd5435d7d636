"""Texts through a vocabulary learnt from the data: a (Bi)LSTM, or convolutions."""

from msiam import hookimpl


@hookimpl
def msiam_encoders(register):
    register(
        "lstm",
        "msiam_lstm.encoder:LstmEncoder",
        modality="text",
        summary="words or byte pairs learnt from the data, or word vectors; (Bi)LSTM; pooling",
    )
    register(
        "text_cnn",
        "msiam_lstm.text_cnn:TextCnn",
        modality="text",
        summary="words as the lstm has them; filters over 3, 4 and 5 words; maxima (Kim 2014)",
    )
