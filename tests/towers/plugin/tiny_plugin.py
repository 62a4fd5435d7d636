"""A plugin with the smallest encoders that do all that an encoder may do."""

from msiam import hookimpl


@hookimpl
def msiam_encoders(register):
    register("letters", "tiny_encoders:Letters", modality="text", preset={"width": 6})
    register("pixels", "tiny_encoders:Pixels", modality="image")
    register("length", "tiny_encoders:Length", modality="text")
