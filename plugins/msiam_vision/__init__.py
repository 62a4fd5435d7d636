"""Image encoders: small ones, the network of 1993, EfficientNet-Lite0, torchvision's backbones."""

from msiam import hookimpl

#: torchvision's backbones that have a name of their own here; the others go by ``model:``.
BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
)


@hookimpl
def msiam_encoders(register):
    register(
        "small_cnn",
        "msiam_vision.small_cnn:SmallCNN",
        modality="image",
        summary="a small residual CNN for small pictures, trained from scratch",
    )
    register(
        "conv4",
        "msiam_vision.conv4:Conv4",
        modality="image",
        summary="four blocks of convolution and pooling, as in the few-shot literature",
    )
    register(
        "time_delay",
        "msiam_vision.time_delay:TimeDelay",
        modality="image",
        summary="the network of the first siamese one (1993), over a signature's columns",
    )
    register(
        "efficientnet_lite0",
        "msiam_vision.efficientnet_lite:EfficientNetLite0",
        modality="image",
        summary="EfficientNet-Lite0, with ImageNet weights from a file",
        extra="msiam[pretrained]",
    )
    register(
        "torchvision",
        "msiam_vision.torchvision_encoder:TorchvisionEncoder",
        modality="image",
        summary="any classification backbone of torchvision.models, by `model`",
    )
    for model in BACKBONES:
        register(
            model,
            "msiam_vision.torchvision_encoder:TorchvisionEncoder",
            modality="image",
            preset={"model": model},
            summary=f"torchvision's {model}",
        )
