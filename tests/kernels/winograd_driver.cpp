// Runs every kernel on buffers of just the right size, for the sanitizers to watch.

#include "winograd.cpp"

#include <cstdio>
#include <vector>

static void run(int64_t count, int64_t channels, int64_t out_channels, int64_t height,
                int64_t width, int64_t padding, int64_t chunk) {
  const int64_t blocks = (out_channels + COLUMNS - 1) / COLUMNS;
  const int64_t down = height + 2 * padding - 2, across = width + 2 * padding - 2;
  const int64_t tiles = count * ((down + 3) / 4) * ((across + 3) / 4);
  std::vector<float> features(count * height * width * channels, 1.0f);
  std::vector<float> packed(36 * blocks * channels * COLUMNS, 0.5f), bias(blocks * COLUMNS, 1.0f);
  std::vector<float> result(count * down * across * out_channels);
  std::vector<float> scratch(winograd_scratch(channels, blocks, chunk));
  winograd_convolution(features.data(), packed.data(), bias.data(), result.data(),
                       scratch.data(), height, width, channels, out_channels, padding, 1, 0,
                       tiles, 0, blocks, chunk);

  std::vector<float> weight(out_channels * channels * 9, 1.0f), gradient(weight.size());
  winograd_pack(weight.data(), packed.data(), 9 * channels, 9, 3, 1, channels, out_channels, 0,
                blocks);
  winograd_pack(weight.data() + 8, packed.data(), 9, 9 * out_channels, -3, -1, channels,
                out_channels, 0, blocks);  // (in, out, 3, 3), turned half round
  const int64_t groups = (channels + LANES - 1) / LANES;
  const int64_t part = (36 * groups * LANES + 1) * blocks * COLUMNS;
  std::vector<float> sums(2 * part), area(winograd_sums_scratch(channels, out_channels, chunk));
  for (int64_t half = 0; half < 2; ++half)  // as two threads share out tiles, and then channels
    winograd_sums(features.data(), result.data(), sums.data() + half * part, area.data(), height,
                  width, channels, out_channels, padding, half * tiles / 2, (half + 1) * tiles / 2,
                  0, groups, chunk);
  winograd_kernel_gradient(sums.data(), gradient.data(), 2, part, 9 * channels, 9, 3, 1, channels,
                           out_channels, 0, channels);
  for (int64_t group = 0; group < groups; ++group)
    winograd_sums(features.data(), result.data(), sums.data(), area.data(), height, width, channels,
                  out_channels, padding, 0, tiles, group, group + 1, chunk);

  const int64_t picture = height * width, pixels = count * picture;
  std::vector<float> planes(features.size()), joined(2 * features.size());
  for (int64_t half = 0; half < 2; ++half) {
    to_planes(features.data(), planes.data(), picture, channels, half * pixels / 2,
              (half + 1) * pixels / 2);
    join_channels(features.data(), joined.data() + half * channels, channels, 2 * channels, 0,
                  pixels);
  }

  const int64_t rows = (height + 1) / 2, windows = count * rows * ((width + 1) / 2);
  std::vector<float> best(windows * channels);
  std::vector<uint8_t> corners(windows * channels);
  pool_corners(features.data(), best.data(), corners.data(), height, width, channels, 0,
               count * rows);
  unpool_corners(best.data(), corners.data(), features.data(), height, width, channels, 0,
                 count * height);
  pick_corners(features.data(), corners.data(), best.data(), height, width, channels, 0,
               count * rows);
}

int main() {
  for (int64_t channels : {1, 7, 16, 33})
    for (int64_t height : {3, 4, 9, 14})
      for (int64_t padding : {0, 1}) run(2, channels, 21, height, height + 2, padding, 24);
  run(1, 16, 48, 30, 31, 1, 192);
  std::puts("done");
}
