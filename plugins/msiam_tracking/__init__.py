"""Visual tracking with a fully-convolutional siamese network (Bertinetto et al., 2016)."""

from msiam import hookimpl


@hookimpl
def msiam_encoders(register):
    register(
        "siamfc",
        "msiam_tracking.encoder:SiamFC",
        modality="image",
        summary="a small fully-convolutional network that keeps the feature map of a crop",
    )


@hookimpl
def msiam_losses(register):
    register(
        "score_map",
        "msiam_tracking.loss:ScoreMap",
        summary="feature maps: where in one is the middle of the other (SiamFC, 2016)",
    )


@hookimpl
def msiam_sources(register):
    register(
        "track_pairs",
        "msiam_tracking.pairs:TrackPairs",
        suffixes=(),
        summary="pairs of crops round one target, cut from videos and from stills",
    )


@hookimpl
def msiam_evaluators(register):
    register(
        "found",
        "msiam_tracking.evaluator:Found",
        summary="how often the target is found in another crop round it",
    )


@hookimpl
def msiam_commands(cli):
    from msiam_tracking.command import track

    cli.command()(track)
