// 3 x 3 convolutions of stride 1 by F(4 x 4, 3 x 3) of Winograd, as Lavin & Gray 2016 write it:
// 36 products where the definition takes 144. Maps are NHWC, so a vector is one pixel's
// neighbouring channels. Also the pooling by switches and its undoing, one byte a switch.
//
// A chunk of 4 x 4 tiles goes through three steps while it is in the cache:
//   its 6 x 6 pixels are transformed,         V[36][tile][channel]
//   multiplied by the transformed kernels,    M[36][tile][out channel] = V U
//   and transformed back, with bias and ReLU.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX512F__
constexpr int64_t LANES = 16;
constexpr int ROWS = 12;  // tiles a product keeps in registers: 24 of 32 sums
#else
constexpr int64_t LANES = 8;
constexpr int ROWS = 6;  // 12 of 16
#endif
constexpr int64_t COLUMNS = 2 * LANES;  // out channels a product keeps in registers
constexpr int64_t SKEW = 16;            // floats, so that the 36 planes start in other cache sets

typedef float Floats __attribute__((vector_size(4 * LANES)));

inline Floats load(const float* place) {
  Floats lanes;
  std::memcpy(&lanes, place, sizeof lanes);
  return lanes;
}

inline void store(float* place, Floats lanes) { std::memcpy(place, &lanes, sizeof lanes); }

inline Floats load_some(const float* place, int64_t count) {
  if (count >= LANES) return load(place);
  Floats lanes = {};
  std::memcpy(&lanes, place, count * sizeof(float));
  return lanes;
}

inline void store_some(float* place, Floats lanes, int64_t count) {
  std::memcpy(place, &lanes, std::min(count, LANES) * sizeof(float));
}

inline Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline Floats multiply_add(float a, Floats b, Floats c) {
  return multiply_add(a - Floats{}, b, c);  // x - 0 is x, unlike 0 + x: a mere copy
}

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

// B^T d B of one tile, for every channel, into 36 planes.
void transform(const Layer& layer, const Tile& tile, float* into, int64_t plane) {
  const int64_t top = tile.row - layer.padding, left = tile.column - layer.padding;
  const float* image =
      layer.features + tile.image * layer.height * layer.width * layer.channels;
  for (int64_t channel = 0; channel < layer.channels; channel += LANES) {
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
        store(into + (6 * row + column) * plane + channel, values[column]);
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

// product[row][0 .. COLUMNS) = left[row][.] right[.][0 .. COLUMNS)
template <int COUNT>
void multiply(const float* left, int64_t left_stride, const float* right, int64_t depth,
              float* product, int64_t product_stride) {
  Floats sums[COUNT][2] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const Floats first = load(right + k * COLUMNS);
    const Floats second = load(right + k * COLUMNS + LANES);
#pragma GCC unroll 12
    for (int row = 0; row < COUNT; ++row) {
      const float value = left[row * left_stride + k];
      sums[row][0] = multiply_add(value, first, sums[row][0]);
      sums[row][1] = multiply_add(value, second, sums[row][1]);
    }
  }
#pragma GCC unroll 12
  for (int row = 0; row < COUNT; ++row) {
    store(product + row * product_stride, sums[row][0]);
    store(product + row * product_stride + LANES, sums[row][1]);
  }
}

template <int COUNT>
void multiply_last(int64_t count, const float* left, int64_t left_stride, const float* right,
                   int64_t depth, float* product, int64_t product_stride) {
  if (count == COUNT)
    multiply<COUNT>(left, left_stride, right, depth, product, product_stride);
  else if constexpr (COUNT > 1)
    multiply_last<COUNT - 1>(count, left, left_stride, right, depth, product, product_stride);
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
      transform(layer, Tile(layer, start + tile), scratch + tile * deep, plane);
    for (int64_t place = 0; place < 36; ++place) {
      for (int64_t block = first_block; block < last_block; ++block) {
        const float* right = kernels + (place * layer.blocks() + block) * channels * COLUMNS;
        const float* left = scratch + place * plane;
        float* product = products + place * product_plane + (block - first_block) * COLUMNS;
        int64_t tile = 0;
        for (; tile + ROWS <= count; tile += ROWS)
          multiply<ROWS>(left + tile * deep, deep, right, channels, product + tile * wide, wide);
        multiply_last<ROWS>(count - tile, left + tile * deep, deep, right, channels,
                            product + tile * wide, wide);
      }
    }
    for (int64_t tile = 0; tile < count; ++tile)
      transform_back(layer, Tile(layer, start + tile), products + tile * wide, product_plane,
                     first_block * COLUMNS, last_block * COLUMNS);
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

}  // extern "C"
