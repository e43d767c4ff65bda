"""A transposed convolution is the transpose of a convolution's matrix, and no inverse.

python examples/04_convolution_and_its_transpose.py
"""

import numpy as np
import torch
import torch.nn.functional as F

from deconvnet.layers import convolution_matrix


def main():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(2, 3, 3, 3))  # out channels, in channels, kernel
    image = rng.normal(size=(3, 5, 6))
    matrix = convolution_matrix(weight, size=(5, 6), stride=2, padding=1)
    rows, columns = matrix.shape
    print(f"matrix: {rows} x {columns}, {matrix.nnz} entries are not zero")

    by_torch = F.conv2d(torch.tensor(image)[None], torch.tensor(weight), stride=2, padding=1)
    by_matrix = (matrix @ image.ravel()).reshape(by_torch.shape)
    print("convolution = M x:", np.allclose(by_matrix, by_torch))

    back_by_torch = F.conv_transpose2d(
        by_torch, torch.tensor(weight), stride=2, padding=1, output_padding=(0, 1)
    )
    back_by_matrix = (matrix.T @ by_matrix.ravel()).reshape(back_by_torch.shape)
    print("transposed convolution = M.T y:", np.allclose(back_by_matrix, back_by_torch))
    print("is it the picture again?", np.allclose(back_by_matrix[0], image))


if __name__ == "__main__":
    main()
