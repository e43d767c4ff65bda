"""What unpooling does: pool a small map, and undo that in seven ways.

python examples/03_unpooling_by_hand.py
"""

import torch

from deconvnet.layers import UNPOOLING_KINDS, Unpooling, pool, unpool

PLANE = torch.tensor([[1.0, 2, 5, 3], [4, 0, 1, 2], [7, 1, 2, 2], [0, 6, 9, 8]])


def main():
    features = PLANE[None, None]  # N, C, H, W
    pooled, switches = pool(features)
    print("plane\n", PLANE, "\npooled\n", pooled[0, 0])
    print(
        "switches: where each maximum was, as row * width + column\n", switches.positions[0, 0]
    )

    restored = unpool(pooled, switches)
    gathered = restored.flatten(2).gather(2, switches.positions.flatten(2))
    print("unpooled by the switches\n", restored[0, 0])
    print(
        "what the switches point at is what was pooled:", gathered.view_as(pooled).equal(pooled)
    )

    for kind in UNPOOLING_KINDS[1:]:
        with torch.no_grad():
            larger = Unpooling(kind, channels=1)(pooled, switches)
        print(f"{kind}\n", larger[0, 0])


if __name__ == "__main__":
    main()
