// Convolutions of stride 1 and any kernel as one product of matrices: a row of the left one is
// what the kernel sees at a place, a column of the right one a kernel. The result is NHWC; the
// features may lie in memory as they please.
//
// Transposed convolutions whose windows do not overlap (a stride as large as the kernel, or a
// single place) are the same product with a kernel of one pixel; only, each row of the result is
// a window, whose lines belong below each other.

#include "vectors.h"

namespace {

constexpr int64_t DEPTH = 1024;  // floats of a row at once, so that a block of columns stays near

struct Places {  // of the kernel over its features
  const float* features;
  int64_t height, width, channels;
  int64_t image_step, row_step, column_step, channel_step;  // in floats
  int64_t kernel_height, kernel_width, padding;
  int64_t down() const { return height + 2 * padding - kernel_height + 1; }
  int64_t across() const { return width + 2 * padding - kernel_width + 1; }
};

// Whether a row of the left matrix lies in the features as it is, and the next one behind it.
bool lies_ready(const Places& places) {
  return places.kernel_height * places.kernel_width == 1 && places.padding == 0 &&
         places.channel_step == 1 && places.column_step == places.channels &&
         places.row_step == places.width * places.column_step &&
         places.image_step == places.height * places.row_step;
}

// The pixels first .. last of the kernel, as it lies at each of `count` places from `start` on;
// beyond the edge are zeros.
void see(const Places& places, int64_t start, int64_t count, int64_t first, int64_t last,
         float* row) {
  const int64_t depth = (last - first) * places.channels;
  int64_t steps[DEPTH];  // from the kernel's corner to each float of a row, where it is inside
  const bool scattered = places.channel_step != 1 && depth <= DEPTH;
  for (int64_t place = 0; scattered && place < depth; ++place) {
    const int64_t pixel = first + place / places.channels;
    steps[place] = pixel / places.kernel_width * places.row_step +
                   pixel % places.kernel_width * places.column_step +
                   place % places.channels * places.channel_step;
  }
  for (int64_t place = start; place < start + count; ++place) {
    const float* image =
        places.features + place / (places.down() * places.across()) * places.image_step;
    const int64_t top = place / places.across() % places.down() - places.padding;
    const int64_t left = place % places.across() - places.padding;
    if (scattered && top >= 0 && top + places.kernel_height <= places.height && left >= 0 &&
        left + places.kernel_width <= places.width) {
      const float* corner = image + top * places.row_step + left * places.column_step;
      for (int64_t value = 0; value < depth; ++value) row[value] = corner[steps[value]];
      row += depth;
      continue;
    }
    for (int64_t pixel = first; pixel < last; ++pixel, row += places.channels) {
      const int64_t y = top + pixel / places.kernel_width;
      const int64_t x = left + pixel % places.kernel_width;
      const float* from = image + y * places.row_step + x * places.column_step;
      if (y < 0 || y >= places.height || x < 0 || x >= places.width)
        std::fill_n(row, places.channels, 0.0f);
      else if (places.channel_step == 1)
        std::memcpy(row, from, places.channels * sizeof(float));
      else
        for (int64_t channel = 0; channel < places.channels; ++channel)
          row[channel] = from[channel * places.channel_step];
    }
  }
}

// Kernel pixels whose channels make up DEPTH floats of a row, or one pixel.
int64_t pixels_at_once(const Places& places) {
  return std::max<int64_t>(1, DEPTH / places.channels);
}

}  // namespace

extern "C" {

int64_t product_columns() { return COLUMNS; }

// Floats of scratch memory that one call of product needs, for `chunk` rows of so many blocks.
int64_t product_scratch(int64_t channels, int64_t blocks, int64_t chunk) {
  return chunk * (std::max(DEPTH, channels) + blocks * COLUMNS);
}

// The rows first_row .. last_row of the result, its columns in blocks of COLUMNS; of each row
// `lines` runs of equal length, which go below each other. The right matrix is packed as
// (blocks, kernel_height * kernel_width * channels, COLUMNS), `columns` of them being real.
void product(const float* features, const float* packed, const float* bias, float* result,
             float* scratch, int64_t height, int64_t width, int64_t channels,
             int64_t image_step, int64_t row_step, int64_t column_step, int64_t channel_step,
             int64_t kernel_height, int64_t kernel_width, int64_t padding, int64_t columns,
             int64_t lines, int64_t relu, int64_t first_row, int64_t last_row,
             int64_t first_block, int64_t last_block, int64_t chunk) {
  const Places places{features,   height,       width,         channels,
                      image_step, row_step,     column_step,   channel_step,
                      kernel_height, kernel_width, padding};
  const int64_t pixels = kernel_height * kernel_width, at_once = pixels_at_once(places);
  const int64_t wide = (last_block - first_block) * COLUMNS, run = columns / lines;
  const bool ready = lies_ready(places);
  float* const sums = scratch + chunk * std::max(DEPTH, channels);
  for (int64_t start = first_row; start < last_row; start += chunk) {
    const int64_t count = std::min(chunk, last_row - start);
    for (int64_t pixel = 0; pixel < pixels; pixel += at_once) {
      const int64_t last_pixel = std::min(pixels, pixel + at_once);
      const int64_t depth = (last_pixel - pixel) * channels;
      const float* rows = ready ? features + start * channels : scratch;
      if (!ready) see(places, start, count, pixel, last_pixel, scratch);
      for (int64_t block = first_block; block < last_block; ++block) {
        const float* const right = packed + (block * pixels + pixel) * channels * COLUMNS;
        const float* const next =
            block + 1 < last_block
                ? right + pixels * channels * COLUMNS
                : packed + (first_block * pixels + last_pixel) * channels * COLUMNS;
        multiply_rows(count, rows, depth, right, depth,
                      sums + (block - first_block) * COLUMNS, wide, next, pixel > 0);
      }
    }
    const int64_t first = first_block * COLUMNS, last = std::min(last_block * COLUMNS, columns);
    for (int64_t row = 0; row < count; ++row) {
      float* const values = sums + row * wide;
      for (int64_t column = 0; column < wide; column += LANES) {
        const Floats value = load(values + column) + load(bias + first + column);
        store(values + column, relu ? (value < 0 ? Floats{} : value) : value);
      }
      const int64_t y = (start + row) / places.across(), x = (start + row) % places.across();
      for (int64_t line = first / run; line * run < last; ++line) {
        const int64_t from = std::max(first, line * run), to = std::min(last, (line + 1) * run);
        float* const there = result + ((y * lines + line) * places.across() + x) * run;
        std::memcpy(there + from - line * run, values + from - first,
                    (to - from) * sizeof(float));
      }
    }
  }
}

}  // extern "C"
