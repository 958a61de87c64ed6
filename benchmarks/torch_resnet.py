"""torchvision's ResNets in PyTorch alone; `benchmarks/resnet_parity.py` runs it with a Python that has torch.

`python torch_resnet.py FOLDER` reads `<image>.npy`, f32[B, 3, H, W], and writes for each network its state dict,
`<network>.safetensors`, with batch statistics far from 0 and 1, and its features of each image,
`<network>_<image>.safetensors`. It prints versions and, where torchvision is installed, by how much the features of
torchvision's own networks differ.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


class BasicBlock(nn.Module):
    """As in torchvision.models.resnet."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    """As in torchvision.models.resnet; its state dict has the same names."""

    def __init__(self, blocks: tuple[int, ...]):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for stage, (count, outputs) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=1):
            stack = []
            for number in range(count):
                stack.append(BasicBlock(inputs, outputs, 2 if stage > 1 and number == 0 else 1))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*stack))
        self.fc = nn.Linear(512, 1000)


def features(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Five maps, at a half, a quarter, ... of the resolution; `model` is this file's or torchvision's."""
    feature_maps = {"0": model.bn1(model.conv1(x)).relu()}
    x = model.maxpool(feature_maps["0"])
    for stage in range(1, 5):
        x = feature_maps[str(stage)] = getattr(model, f"layer{stage}")(x)
    return feature_maps


def shake(model: nn.Module) -> None:
    """Batch norms as after a training: every array drawn, variances positive."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)


def main() -> None:
    """Reads the folder from the command line."""
    folder = Path(sys.argv[1])
    images = {path.stem: torch.from_numpy(np.load(path)) for path in folder.glob("*.npy")}
    try:
        import torchvision
    except (ImportError, RuntimeError):  # not there, or built for another torch
        torchvision = None
    largest = 0.0
    with torch.no_grad():
        for name, blocks in BLOCKS.items():
            torch.manual_seed(0)
            model = ResNet(blocks).eval()
            shake(model)
            save_file(model.state_dict(), folder / f"{name}.safetensors")
            feature_maps = {image: features(model, x) for image, x in images.items()}
            for image, maps in feature_maps.items():
                save_file(maps, folder / f"{name}_{image}.safetensors")
            if torchvision:
                torchvision_model = getattr(torchvision.models, name)().eval()
                torchvision_model.load_state_dict(model.state_dict())
                for image, x in images.items():
                    for key, value in features(torchvision_model, x).items():
                        largest = max(largest, float((value - feature_maps[image][key]).abs().max()))
    versions = {"torch": torch.__version__, "torchvision": torchvision and torchvision.__version__}
    print(json.dumps({**versions, "largest difference from torchvision": largest if torchvision else None}))


if __name__ == "__main__":
    main()
