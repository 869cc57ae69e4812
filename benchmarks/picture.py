"""Draw the picture of README.md: a synthetic scene, its truth, the prediction, the radius of each pixel."""

from __future__ import annotations

from pathlib import Path

import onelip

TARGET = Path(__file__).parent.parent / "docs" / "images" / "scene.png"


def main() -> None:
    """Certify one test scene with the shipped model."""
    scenes = onelip.data.open("scenes", "test", size=(128, 192))
    image, target = scenes[3]
    certificate = onelip.certify.segmentation(onelip.load("scenes"), image[None], target[None])
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure = certificate.figure(palette=scenes.palette)
    figure.savefig(TARGET, dpi=110, bbox_inches="tight", pad_inches=0.05)
    print(certificate, f"\n{TARGET}")


if __name__ == "__main__":
    main()
