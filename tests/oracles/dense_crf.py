"""The dense CRF by its definition: every pixel against every pixel, in float64."""

import numpy as np


def exact_filter(features, values):
    """Sum over all j of exp(-|f_i - f_j|^2 / 2) values_j: (N, d), (N, K) -> (N, K)."""
    filtered = np.zeros(values.shape)
    for index, feature in enumerate(features.astype(np.float64)):
        distance = ((features - feature) ** 2).sum(axis=1)
        filtered[index] = np.exp(-distance / 2) @ values
    return filtered


def exact_refine(image, probabilities, iterations, gaussian, bilateral, normalization):
    """Mean field with the exact filter; arguments as of deconvnet.crf.refine."""
    num_classes, height, width = probabilities.shape
    pixels = [(x, y) for y in range(height) for x in range(width)]
    near = np.array([(x / gaussian[0], y / gaussian[0]) for x, y in pixels])
    alike = np.array(
        [(x / bilateral[0], y / bilateral[0], *(image[y, x] / bilateral[1])) for x, y in pixels]
    )
    kernels = [(near, gaussian[1]), (alike, bilateral[2])]
    roots = [
        np.ones((len(pixels), 1))
        if normalization == "none"
        else 1 / np.sqrt(exact_filter(features, np.ones((len(pixels), 1))))
        for features, _ in kernels
    ]
    unary = -np.log(probabilities.reshape(num_classes, -1).T.astype(np.float64))
    beliefs = np.exp(-unary)
    for _ in range(iterations):
        logits = -unary
        for (features, weight), root in zip(kernels, roots, strict=True):
            logits = logits + weight * root * exact_filter(features, root * beliefs)
        beliefs = np.exp(logits - logits.max(axis=1, keepdims=True))
        beliefs /= beliefs.sum(axis=1, keepdims=True)
    return beliefs.T.reshape(num_classes, height, width)


def pydensecrf_refine(image, probabilities, iterations, gaussian, bilateral, normalization):
    """What pydensecrf2 makes of it (needs that package)."""
    import pydensecrf.densecrf as dense

    num_classes, height, width = probabilities.shape
    kinds = {"none": dense.NO_NORMALIZATION, "symmetric": dense.NORMALIZE_SYMMETRIC}
    options = {"kernel": dense.CONST_KERNEL, "normalization": kinds[normalization]}
    field = dense.DenseCRF2D(width, height, num_classes)
    unary = -np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    field.setUnaryEnergy(np.ascontiguousarray(unary.reshape(num_classes, -1), np.float32))
    field.addPairwiseGaussian(sxy=gaussian[0], compat=gaussian[1], **options)
    field.addPairwiseBilateral(
        sxy=bilateral[0],
        srgb=bilateral[1],
        rgbim=np.array(image),
        compat=bilateral[2],
        **options,
    )
    return np.array(field.inference(iterations)).reshape(probabilities.shape)


def drawn_case(height=60, width=80, num_classes=5):
    """A drawn picture and unsure probabilities, the same everywhere: no random numbers."""
    row, column = np.indices((height, width)) / np.array([height, width]).reshape(2, 1, 1)
    labels = (3 * row + np.sin(6 * column)).astype(int) % (num_classes - 1)
    labels[(row - 0.5) ** 2 + (column - 0.4) ** 2 < 0.06] = num_classes - 1
    colors = 40 + 43 * np.array([[i % 2, i % 3, i % 5] for i in range(num_classes)])
    grain = 9 * np.sin(
        1e3 * np.stack([row + column**2, row * column, row**2 - column], axis=-1)
    )
    image = np.clip(colors[labels] + grain, 0, 255).astype(np.uint8)
    doubt = np.stack(
        [np.sin((7 + k) * row + 5 * k + 9 * column) for k in range(num_classes)]
    )  # slow waves, as a coarse network's mistakes
    scores = 2 * (labels == np.arange(num_classes).reshape(-1, 1, 1)) + 1.5 * doubt
    odds = np.exp(scores)
    return image, (odds / odds.sum(axis=0)).astype(np.float32)


def write_golden(path):
    """Make tests/golden/dense_crf.npz anew; needs pydensecrf2."""
    published = (10, (3, 3), (20, 3, 5))
    np.savez_compressed(
        path,
        **{
            kind: np.rint(255 * pydensecrf_refine(*drawn_case(), *published, kind)).astype(
                np.uint8
            )
            for kind in ("none", "symmetric")
        },
    )


if __name__ == "__main__":
    from pathlib import Path

    write_golden(Path(__file__).resolve().parent.parent / "golden" / "dense_crf.npz")
