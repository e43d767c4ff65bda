// 3 x 3 convolutions of stride 1 by F(4 x 4, 3 x 3) of Winograd, as Lavin & Gray 2016 write it:
// 36 products where the definition takes 144. Maps are NHWC, so a vector is one pixel's
// neighbouring channels. Also the pooling by switches and its undoing, one byte a switch, maps
// set beside each other, and maps as planes.
//
// A chunk of 4 x 4 tiles goes through three steps while it is in the cache:
//   its 6 x 6 pixels are transformed,         V[36][tile][channel]
//   multiplied by the transformed kernels,    M[36][tile][out channel] = V U
//   and transformed back, with bias and ReLU.
//
// For training: what a loss changes by the pixels of the features is such a convolution too, by
// the kernels turned half round. What it changes by the kernels are 36 products as well, of the
// transformed tiles V and of the gradient's tiles spread out, D[36][tile][out channel]:
//   S = V^T D, summed over all tiles, and transformed back to 3 x 3.

#include <limits>

#include "vectors.h"

namespace {

constexpr int SUM_ROWS = LANES / 2;  // in channels that V^T D keeps in registers
constexpr int64_t SKEW = 16;         // floats, so that the 36 planes start in other cache sets

typedef double Doubles __attribute__((vector_size(8 * LANES)));

struct Layer {
  const float* features;  // (count, height, width, channels)
  const float* kernels;   // (36, blocks, channels, COLUMNS)
  const float* bias;      // (blocks * COLUMNS)
  float* result;          // (count, out_height, out_width, out_channels)
  int64_t height, width, channels, out_channels, padding, relu;
  int64_t out_height() const { return height + 2 * padding - 2; }
  int64_t out_width() const { return width + 2 * padding - 2; }
  int64_t tiles_down() const { return (out_height() + 3) / 4; }
  int64_t tiles_across() const { return (out_width() + 3) / 4; }
  int64_t blocks() const { return (out_channels + COLUMNS - 1) / COLUMNS; }
};

struct Tile {  // where a tile lies; rows and columns are those of the result
  int64_t image, row, column;
  Tile(const Layer& layer, int64_t number)
      : image(number / (layer.tiles_down() * layer.tiles_across())),
        row(number / layer.tiles_across() % layer.tiles_down() * 4),
        column(number % layer.tiles_across() * 4) {}
};

// B^T d of one line of six.
inline void transform_line(const Floats d[6], Floats v[6]) {
  const Floats even = multiply_add(-4, d[2], d[4]), odd = multiply_add(-4, d[1], d[3]);
  const Floats outer = d[4] - d[2], inner = d[3] - d[1];
  v[0] = multiply_add(4, d[0], multiply_add(-5, d[2], d[4]));
  v[1] = even + odd;
  v[2] = even - odd;
  v[3] = multiply_add(2, inner, outer);
  v[4] = multiply_add(-2, inner, outer);
  v[5] = multiply_add(4, d[1], multiply_add(-5, d[3], d[5]));
}

// A^T m of one line of six.
inline void transform_back_line(const Floats m[6], Floats y[4]) {
  const Floats sum = m[1] + m[2], difference = m[1] - m[2];
  const Floats far_sum = m[3] + m[4], far_difference = m[3] - m[4];
  y[0] = m[0] + sum + far_sum;
  y[1] = multiply_add(2, far_difference, difference);
  y[2] = multiply_add(4, far_sum, sum);
  y[3] = multiply_add(8, far_difference, difference) + m[5];
}

// B^T d B of one tile, for the channels from `first` on, into 36 planes. There LANES channels lie
// together, and the next ones `group` floats further on.
void transform(const Layer& layer, const Tile& tile, float* into, int64_t plane, int64_t group,
               int64_t first, int64_t last) {
  const int64_t top = tile.row - layer.padding, left = tile.column - layer.padding;
  const float* image =
      layer.features + tile.image * layer.height * layer.width * layer.channels;
  for (int64_t channel = first; channel < last; channel += LANES, into += group) {
    const int64_t count = layer.channels - channel;
    Floats lines[6][6];  // by column, then row
    for (int column = 0; column < 6; ++column) {
      Floats pixels[6] = {};
      const int64_t x = left + column;
      if (x >= 0 && x < layer.width) {
        for (int row = 0; row < 6; ++row) {
          const int64_t y = top + row;
          if (y >= 0 && y < layer.height)
            pixels[row] =
                load_some(image + (y * layer.width + x) * layer.channels + channel, count);
        }
      }
      transform_line(pixels, lines[column]);
    }
    for (int row = 0; row < 6; ++row) {
      const Floats line[6] = {lines[0][row], lines[1][row], lines[2][row],
                              lines[3][row], lines[4][row], lines[5][row]};
      Floats values[6];
      transform_line(line, values);
      for (int column = 0; column < 6; ++column)
        store(into + (6 * row + column) * plane, values[column]);
    }
  }
}

// A^T m A of one tile, for the out channels from `first` on, with bias and ReLU.
void transform_back(const Layer& layer, const Tile& tile, const float* from, int64_t plane,
                    int64_t first, int64_t last) {
  const int64_t rows = std::min<int64_t>(4, layer.out_height() - tile.row);
  const int64_t columns = std::min<int64_t>(4, layer.out_width() - tile.column);
  float* corner = layer.result + ((tile.image * layer.out_height() + tile.row) *
                                      layer.out_width() + tile.column) * layer.out_channels;
  for (int64_t channel = first; channel < std::min(last, layer.out_channels);
       channel += LANES) {
    Floats lines[6][4];  // by column of m, then row of the result
    for (int column = 0; column < 6; ++column) {
      Floats products[6];
      for (int row = 0; row < 6; ++row)
        products[row] = load(from + (6 * row + column) * plane + channel - first);
      transform_back_line(products, lines[column]);
    }
    const Floats bias = load(layer.bias + channel);
    for (int64_t row = 0; row < rows; ++row) {
      const Floats line[6] = {lines[0][row], lines[1][row], lines[2][row],
                              lines[3][row], lines[4][row], lines[5][row]};
      Floats values[4];
      transform_back_line(line, values);
      for (int64_t column = 0; column < columns; ++column) {
        Floats value = values[column] + bias;
        if (layer.relu) value = value < 0 ? Floats{} : value;
        store_some(corner + (row * layer.out_width() + column) * layer.out_channels + channel,
                   value, layer.out_channels - channel);
      }
    }
  }
}

// A d of one line of four: the transpose of transform_back_line.
inline void spread_line(const Floats y[4], Floats d[6]) {
  const Floats even = y[0] + y[2], odd = y[1] + y[3];
  const Floats far_even = multiply_add(4, y[2], y[0]), far_odd = multiply_add(4, y[3], y[1]);
  d[0] = y[0];
  d[1] = even + odd;
  d[2] = even - odd;
  d[3] = multiply_add(2, far_odd, far_even);
  d[4] = multiply_add(-2, far_odd, far_even);
  d[5] = y[3];
}

// A d A^T of one tile of the result's gradient, for every out channel; laid out as by transform.
void spread(const Layer& layer, const float* gradient, const Tile& tile, float* into,
            int64_t plane, int64_t group) {
  const int64_t rows = std::min<int64_t>(4, layer.out_height() - tile.row);
  const int64_t columns = std::min<int64_t>(4, layer.out_width() - tile.column);
  const float* corner = gradient + ((tile.image * layer.out_height() + tile.row) *
                                        layer.out_width() + tile.column) * layer.out_channels;
  const int64_t wide = layer.blocks() * COLUMNS;
  for (int64_t channel = 0; channel < wide; channel += LANES) {
    float* const place = into + channel / COLUMNS * group + channel % COLUMNS;
    const int64_t count = std::max<int64_t>(0, layer.out_channels - channel);
    Floats lines[4][6] = {};  // by column of the tile, then row of the 6 x 6
    for (int64_t column = 0; column < columns; ++column) {
      Floats pixels[4] = {};
      for (int64_t row = 0; row < rows; ++row)
        pixels[row] = load_some(
            corner + (row * layer.out_width() + column) * layer.out_channels + channel, count);
      spread_line(pixels, lines[column]);
    }
    for (int row = 0; row < 6; ++row) {
      const Floats line[4] = {lines[0][row], lines[1][row], lines[2][row], lines[3][row]};
      Floats values[6];
      spread_line(line, values);
      for (int column = 0; column < 6; ++column)
        store(place + (6 * row + column) * plane, values[column]);
    }
  }
}

// sum[0 .. SUM_ROWS)[0 .. COLUMNS) += left^T right, over `depth` tiles that lie close together.
void multiply_over_tiles(const float* left, const float* right, int64_t depth, float* sum,
                         int64_t sum_stride) {
  Floats sums[SUM_ROWS][2] = {};
  for (int64_t tile = 0; tile < depth; ++tile) {
    const Floats first = load(right + tile * COLUMNS);
    const Floats second = load(right + tile * COLUMNS + LANES);
#pragma GCC unroll 8
    for (int row = 0; row < SUM_ROWS; ++row) {
      const float value = left[tile * LANES + row];
      sums[row][0] = multiply_add(value, first, sums[row][0]);
      sums[row][1] = multiply_add(value, second, sums[row][1]);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < SUM_ROWS; ++row) {
    float* const place = sum + row * sum_stride;
    store(place, load(place) + sums[row][0]);
    store(place + LANES, load(place + LANES) + sums[row][1]);
  }
}

// G g of one line of three.
inline void transform_kernel_line(const Doubles g[3], Doubles u[6]) {
  const Doubles outer = (g[0] + g[2]) / 6, far_outer = (g[0] + 4 * g[2]) / 24;
  u[0] = g[0] / 4;
  u[1] = -outer - g[1] / 6;
  u[2] = -outer + g[1] / 6;
  u[3] = far_outer + g[1] / 12;
  u[4] = far_outer - g[1] / 12;
  u[5] = g[2];
}

// G^T u of one line of six.
inline void transform_kernel_back_line(const Floats u[6], Floats g[3]) {
  const Floats sum = u[1] + u[2], far_sum = u[3] + u[4];
  g[0] = u[0] / 4 - sum / 6 + far_sum / 24;
  g[1] = (u[2] - u[1]) / 6 + (u[3] - u[4]) / 12;
  g[2] = (far_sum - sum) / 6 + u[5];
}

}  // namespace

extern "C" {

int64_t winograd_lanes() { return LANES; }

// Floats of scratch memory that one call of winograd_convolution needs.
int64_t winograd_scratch(int64_t channels, int64_t blocks, int64_t chunk) {
  const int64_t deep = (channels + LANES - 1) / LANES * LANES;
  return 36 * (chunk * (deep + blocks * COLUMNS) + 2 * SKEW) + LANES;
}

// The tiles first_tile .. last_tile of the result, its out channels in blocks of COLUMNS.
void winograd_convolution(const float* features, const float* kernels, const float* bias,
                          float* result, float* scratch, int64_t height, int64_t width,
                          int64_t channels, int64_t out_channels, int64_t padding, int64_t relu,
                          int64_t first_tile, int64_t last_tile, int64_t first_block,
                          int64_t last_block, int64_t chunk) {
  const Layer layer{features, kernels,      bias,    result, height, width,
                    channels, out_channels, padding, relu};
  const int64_t deep = (channels + LANES - 1) / LANES * LANES;
  const int64_t wide = (last_block - first_block) * COLUMNS;
  const int64_t plane = chunk * deep + SKEW, product_plane = chunk * wide + SKEW;
  float* const products = scratch + 36 * plane;
  for (int64_t start = first_tile; start < last_tile; start += chunk) {
    const int64_t count = std::min(chunk, last_tile - start);
    for (int64_t tile = 0; tile < count; ++tile)
      transform(layer, Tile(layer, start + tile), scratch + tile * deep, plane, LANES, 0,
                channels);
    for (int64_t place = 0; place < 36; ++place) {
      for (int64_t block = first_block; block < last_block; ++block) {
        const float* right = kernels + (place * layer.blocks() + block) * channels * COLUMNS;
        const float* left = scratch + place * plane;
        float* product = products + place * product_plane + (block - first_block) * COLUMNS;
        multiply_rows(count, left, deep, right, channels, product, wide,
                      right + channels * COLUMNS);
      }
    }
    for (int64_t tile = 0; tile < count; ++tile)
      transform_back(layer, Tile(layer, start + tile), products + tile * wide, product_plane,
                     first_block * COLUMNS, last_block * COLUMNS);
  }
}

// G g G^T of the kernels, in float64, packed for winograd_convolution: (36, blocks, channels,
// COLUMNS). Strides are in floats and may be negative: so kernels are turned and exchanged.
void winograd_pack(const float* weight, float* packed, int64_t out_stride, int64_t in_stride,
                   int64_t row_stride, int64_t column_stride, int64_t channels,
                   int64_t out_channels, int64_t first_block, int64_t last_block) {
  const int64_t blocks = (out_channels + COLUMNS - 1) / COLUMNS;
  for (int64_t out = first_block * COLUMNS; out < last_block * COLUMNS; out += LANES) {
    const int64_t count = std::min(LANES, out_channels - out);
    for (int64_t channel = 0; channel < channels; ++channel) {
      const float* const kernel = weight + out * out_stride + channel * in_stride;
      Doubles lines[3][6];  // by column of the kernel, then row of the 6 x 6
      for (int column = 0; column < 3; ++column) {
        Doubles values[3] = {};
        for (int row = 0; row < 3; ++row)
          for (int64_t lane = 0; lane < count; ++lane)
            values[row][lane] =
                kernel[lane * out_stride + row * row_stride + column * column_stride];
        transform_kernel_line(values, lines[column]);
      }
      float* const place =
          packed + (out / COLUMNS * channels + channel) * COLUMNS + out % COLUMNS;
      for (int row = 0; row < 6; ++row) {
        const Doubles line[3] = {lines[0][row], lines[1][row], lines[2][row]};
        Doubles values[6];
        transform_kernel_line(line, values);
        for (int column = 0; column < 6; ++column)
          store(place + (6 * row + column) * blocks * channels * COLUMNS,
                __builtin_convertvector(values[column], Floats));
      }
    }
  }
}

// Floats of scratch memory that one call of winograd_sums needs.
int64_t winograd_sums_scratch(int64_t channels, int64_t out_channels, int64_t chunk) {
  const int64_t deep = (channels + LANES - 1) / LANES * LANES;
  const int64_t wide = (out_channels + COLUMNS - 1) / COLUMNS * COLUMNS;
  return 36 * (chunk * (deep + wide) + 2 * SKEW);
}

// S of the tiles first_tile .. last_tile, for the in channels of some groups of LANES, into
// (36, groups * LANES, blocks * COLUMNS); and, with the first group, the gradient's own sum over
// the tiles, into the blocks * COLUMNS floats after it.
void winograd_sums(const float* features, const float* gradient, float* sums, float* scratch,
                   int64_t height, int64_t width, int64_t channels, int64_t out_channels,
                   int64_t padding, int64_t first_tile, int64_t last_tile, int64_t first_group,
                   int64_t last_group, int64_t chunk) {
  const Layer layer{features, nullptr,      nullptr, nullptr, height, width,
                    channels, out_channels, padding, 0};
  const int64_t deep = (channels + LANES - 1) / LANES * LANES;
  const int64_t wide = layer.blocks() * COLUMNS;
  const int64_t first = first_group * LANES, last = last_group * LANES;
  const int64_t plane = chunk * (last - first) + SKEW, spread_plane = chunk * wide + SKEW;
  float* const spreads = scratch + 36 * plane;
  float* const total = sums + 36 * deep * wide;
  for (int64_t place = 0; place < 36; ++place)
    std::fill_n(sums + (place * deep + first) * wide, (last - first) * wide, 0.0f);
  if (first == 0) std::fill_n(total, wide, 0.0f);
  for (int64_t start = first_tile; start < last_tile; start += chunk) {
    const int64_t count = std::min(chunk, last_tile - start);
    for (int64_t number = 0; number < count; ++number) {
      const Tile tile(layer, start + number);
      transform(layer, tile, scratch + number * LANES, plane, chunk * LANES, first,
                std::min(last, channels));
      spread(layer, gradient, tile, spreads + number * COLUMNS, spread_plane, chunk * COLUMNS);
    }
    for (int64_t place = 0; place < 36; ++place)
      for (int64_t column = 0; column < wide; column += COLUMNS)
        for (int64_t row = first; row < last; row += SUM_ROWS)
          multiply_over_tiles(
              scratch + place * plane + (row - first) / LANES * LANES * chunk + row % LANES,
              spreads + place * spread_plane + column * chunk, count,
              sums + (place * deep + row) * wide + column, wide);
    if (first == 0)  // in the plane of the point (1, 1) a tile is spread to the sum of its pixels
      for (int64_t column = 0; column < wide; column += COLUMNS)
        for (int64_t number = 0; number < count; ++number)
          for (int64_t lane = 0; lane < COLUMNS; ++lane)
            total[column + lane] +=
                spreads[7 * spread_plane + column * chunk + number * COLUMNS + lane];
  }
}

// G^T S G for some in channels; S is the sum of `parts` of them. Strides as for winograd_pack.
void winograd_kernel_gradient(const float* sums, float* gradient, int64_t parts,
                              int64_t part_size, int64_t out_stride, int64_t in_stride,
                              int64_t row_stride, int64_t column_stride, int64_t channels,
                              int64_t out_channels, int64_t first, int64_t last) {
  const int64_t deep = (channels + LANES - 1) / LANES * LANES;
  const int64_t wide = (out_channels + COLUMNS - 1) / COLUMNS * COLUMNS;
  for (int64_t channel = first; channel < last; ++channel) {
    for (int64_t out = 0; out < out_channels; out += LANES) {
      Floats lines[6][3];  // by column of the 6 x 6, then row of the kernel
      for (int column = 0; column < 6; ++column) {
        Floats values[6] = {};
        for (int row = 0; row < 6; ++row)
          for (int64_t part = 0; part < parts; ++part)
            values[row] += load(sums + part * part_size +
                                ((6 * row + column) * deep + channel) * wide + out);
        transform_kernel_back_line(values, lines[column]);
      }
      float* const kernel = gradient + out * out_stride + channel * in_stride;
      const int64_t count = std::min(LANES, out_channels - out);
      for (int row = 0; row < 3; ++row) {
        const Floats line[6] = {lines[0][row], lines[1][row], lines[2][row],
                                lines[3][row], lines[4][row], lines[5][row]};
        Floats values[3];
        transform_kernel_back_line(line, values);
        for (int column = 0; column < 3; ++column)
          for (int64_t lane = 0; lane < count; ++lane)
            kernel[lane * out_stride + row * row_stride + column * column_stride] =
                values[column][lane];
      }
    }
  }
}

// The maximum of each 2 x 2 window and the corner it was in, 0 1 above 2 3 below; the first of
// equals wins, and windows may hang over the right and lower edge. Rows are those of the result,
// of all pictures one below the other.
void pool_corners(const float* features, float* best, uint8_t* corners, int64_t height,
                  int64_t width, int64_t channels, int64_t first_row, int64_t last_row) {
  const int64_t rows = (height + 1) / 2, columns = (width + 1) / 2;
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* image = features + row / rows * height * width * channels;
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t y = row % rows * 2, x = column * 2;
      float* most = best + (row * columns + column) * channels;
      uint8_t* corner = corners + (row * columns + column) * channels;
      std::memcpy(most, image + (y * width + x) * channels, channels * sizeof(float));
      std::memset(corner, 0, channels);
      for (int number = 1; number < 4; ++number) {
        if (y + number / 2 >= height || x + number % 2 >= width) continue;
        const float* pixel = image + ((y + number / 2) * width + x + number % 2) * channels;
        for (int64_t c = 0; c < channels; ++c) {
          const bool wins = pixel[c] > most[c] || pixel[c] != pixel[c];
          most[c] = wins ? pixel[c] : most[c];
          corner[c] = wins ? number : corner[c];
        }
      }
    }
  }
}

// The channels of some pixels to their place among all those of the result's pixels.
void join_channels(const float* features, float* result, int64_t channels, int64_t all_channels,
                   int64_t first_pixel, int64_t last_pixel) {
  for (int64_t pixel = first_pixel; pixel < last_pixel; ++pixel)
    std::memcpy(result + pixel * all_channels, features + pixel * channels,
                channels * sizeof(float));
}

// Maps of pixels, channel beside channel, as planes; the pixels of all pictures one behind the
// other.
void to_planes(const float* features, float* planes, int64_t picture, int64_t channels,
               int64_t first_pixel, int64_t last_pixel) {
  constexpr int64_t BLOCK = 64;  // pixels whose channels stay in the cache
  for (int64_t start = first_pixel; start < last_pixel;) {
    const int64_t end = std::min({last_pixel, start + BLOCK, (start / picture + 1) * picture});
    for (int64_t channel = 0; channel < channels; ++channel) {
      float* const plane =
          planes + (start / picture * channels + channel) * picture - start / picture * picture;
      for (int64_t pixel = start; pixel < end; ++pixel)
        plane[pixel] = features[pixel * channels + channel];
    }
    start = end;
  }
}

// Each value to its corner of a plane of zeros; rows are those of the plane.
void unpool_corners(const float* features, const uint8_t* corners, float* plane, int64_t height,
                    int64_t width, int64_t channels, int64_t first_row, int64_t last_row) {
  const int64_t rows = (height + 1) / 2, columns = (width + 1) / 2;
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t y = row % height, window_row = row / height * rows + y / 2;
    for (int64_t x = 0; x < width; ++x) {
      const int64_t window = (window_row * columns + x / 2) * channels;
      const int here = y % 2 * 2 + x % 2;
      float* pixel = plane + (row * width + x) * channels;
      for (int64_t c = 0; c < channels; ++c)
        pixel[c] = corners[window + c] == here ? features[window + c] : 0.0f;
    }
  }
}

// The way back of unpool_corners: what lies in each corner; rows are those of the windows.
void pick_corners(const float* plane, const uint8_t* corners, float* picked, int64_t height,
                  int64_t width, int64_t channels, int64_t first_row, int64_t last_row) {
  const int64_t rows = (height + 1) / 2, columns = (width + 1) / 2;
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t y = row % rows * 2;
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t x = column * 2, window = (row * columns + column) * channels;
      const float* pixel = plane + ((row / rows * height + y) * width + x) * channels;
      std::fill_n(picked + window, channels, 0.0f);
      for (int number = 0; number < 4; ++number) {
        if (y + number / 2 >= height || x + number % 2 >= width) continue;
        const float* there = pixel + (number / 2 * width + number % 2) * channels;
        for (int64_t c = 0; c < channels; ++c)
          picked[window + c] = corners[window + c] == number ? there[c] : picked[window + c];
      }
    }
  }
}

}  // extern "C"
