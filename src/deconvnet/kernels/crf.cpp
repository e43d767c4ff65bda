// The two inner loops of deconvnet/crf.py: a sparse matrix times a few columns, and softmax.
//
// Rows are short (a row holds the classes of one pixel), so the win is to keep a whole row of
// sums in registers. Each sum is added up in the order of the plain code, without fused
// multiply-add, so the products have its very bits.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t LANES = 8;
typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Integers __attribute__((vector_size(32)));

Floats load(const float* place) {
  Floats lanes;
  std::memcpy(&lanes, place, sizeof lanes);
  return lanes;
}

void store(float* place, Floats lanes) { std::memcpy(place, &lanes, sizeof lanes); }

struct Matrix {  // compressed sparse rows
  int64_t rows;
  const int32_t* ends;     // (rows + 1)
  const int32_t* columns;  // (entries)
  const float* weights;    // (entries)
};

// The product's columns start[b] to start[b] + 7, for every b.
template <int BLOCKS>
void multiply_blocks(const Matrix& matrix, int64_t width, const int64_t* start,
                     const float* values, float* product) {
  for (int64_t row = 0; row < matrix.rows; ++row) {
    Floats sums[BLOCKS] = {};
    for (int32_t entry = matrix.ends[row]; entry < matrix.ends[row + 1]; ++entry) {
      const float* from = values + matrix.columns[entry] * width;
      for (int b = 0; b < BLOCKS; ++b) sums[b] += matrix.weights[entry] * load(from + start[b]);
    }
    for (int b = 0; b < BLOCKS; ++b) store(product + row * width + start[b], sums[b]);
  }
}

void multiply_narrow(const Matrix& matrix, int64_t width, const float* values, float* product) {
  for (int64_t row = 0; row < matrix.rows; ++row) {
    float* sums = product + row * width;
    std::fill(sums, sums + width, 0.0f);
    for (int32_t entry = matrix.ends[row]; entry < matrix.ends[row + 1]; ++entry)
      for (int64_t k = 0; k < width; ++k)
        sums[k] += matrix.weights[entry] * values[matrix.columns[entry] * width + k];
  }
}

// e^x for x <= 0, to about 2 units in the last place: 2^n e^r, with |r| <= ln(2) / 2.
Floats exponential(Floats x) {
  const Floats least = Floats{} - 87.0f;
  x = x > least ? x : least;
  const Floats shifter = Floats{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to integers
  const Floats n = (x * 1.44269504f + shifter) - shifter;
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln(2) in two parts
  Floats sum = r * (1.0f / 5040) + 1.0f / 720;
  for (float term : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) sum = sum * r + term;
  const Integers exponent = __builtin_convertvector(n, Integers) << 23;
  Integers bits;
  std::memcpy(&bits, &sum, sizeof bits);
  bits += exponent;
  std::memcpy(&sum, &bits, sizeof sum);
  return sum;
}

}  // namespace

extern "C" {

// product (rows, width) = matrix (rows, any) x values (any, width)
void multiply(int64_t rows, int64_t width, const int32_t* ends, const int32_t* columns,
              const float* weights, const float* values, float* product) {
  const Matrix matrix{rows, ends, columns, weights};
  if (width < LANES) return multiply_narrow(matrix, width, values, product);
  std::vector<int64_t> start;  // the last block may overlap the one before: same sums, twice
  for (int64_t k = 0; k < width; k += LANES) start.push_back(std::min(k, width - LANES));
  for (size_t b = 0; b < start.size(); b += 4) {
    switch (std::min<size_t>(start.size() - b, 4)) {
      case 1: multiply_blocks<1>(matrix, width, &start[b], values, product); break;
      case 2: multiply_blocks<2>(matrix, width, &start[b], values, product); break;
      case 3: multiply_blocks<3>(matrix, width, &start[b], values, product); break;
      default: multiply_blocks<4>(matrix, width, &start[b], values, product);
    }
  }
}

// Softmax of each row of logits (rows, width), in place.
void softmax(int64_t rows, int64_t width, float* logits) {
  const int64_t padded = (width + LANES - 1) / LANES * LANES;
  std::vector<float> buffer(padded);
  for (int64_t row = 0; row < rows; ++row) {
    float* values = logits + row * width;
    const float greatest = *std::max_element(values, values + width);
    for (int64_t k = 0; k < width; ++k) buffer[k] = values[k] - greatest;
    for (int64_t k = 0; k < padded; k += LANES) store(&buffer[k], exponential(load(&buffer[k])));
    float sum = 0;
    for (int64_t k = 0; k < width; ++k) sum += buffer[k];
    for (int64_t k = 0; k < width; ++k) values[k] = buffer[k] / sum;
  }
}

}  // extern "C"
