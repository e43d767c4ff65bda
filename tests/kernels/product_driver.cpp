// Runs the product on buffers of just the right size, for the sanitizers to watch.

#include "product.cpp"

#include <cstdio>
#include <vector>

static void run(int64_t count, int64_t channels, int64_t columns, int64_t lines, int64_t side,
                int64_t kernel, int64_t padding, int64_t chunk) {
  const int64_t blocks = (columns + COLUMNS - 1) / COLUMNS;
  const int64_t out = side + 2 * padding - kernel + 1, rows = count * out * out;
  std::vector<float> features(count * side * side * channels, 1.0f);
  std::vector<float> packed(blocks * kernel * kernel * channels * COLUMNS, 0.5f);
  std::vector<float> bias(blocks * COLUMNS, 1.0f), result(rows * columns);
  std::vector<float> scratch(product_scratch(channels, blocks, chunk));
  for (int64_t half = 0; half < 2; ++half) {  // as two threads share out rows, and then columns
    for (int64_t planar = 0; planar < 2; ++planar)
      product(features.data(), packed.data(), bias.data(), result.data(), scratch.data(), side,
              side, channels, side * side * channels, planar ? side : side * channels,
              planar ? 1 : channels, planar ? side * side : 1, kernel, kernel, padding, columns,
              lines, 1, half * rows / 2, (half + 1) * rows / 2, 0, blocks, chunk);
    product(features.data(), packed.data(), bias.data(), result.data(), scratch.data(), side, side,
            channels, side * side * channels, side * channels, channels, 1, kernel, kernel, padding,
            columns, lines, 0, 0, rows, half * blocks / 2, (half + 1) * blocks / 2, chunk);
  }
}

int main() {
  for (int64_t channels : {1, 7, 33, 1100})
    for (int64_t kernel : {1, 3})
      for (int64_t padding : {0, 1}) run(2, channels, 21, 1, 5, kernel, padding, 7);
  run(2, 16, 84, 2, 5, 1, 0, 48);
  run(1, 600, 21, 1, 7, 7, 0, 4);
  std::puts("done");
}
