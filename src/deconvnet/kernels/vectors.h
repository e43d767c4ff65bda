// What the kernels have in common: vectors of floats, and small products of matrices by them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

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

// What a product asks the memory for while it computes: `step` bytes at each turn of its loop.
struct Wanted {
  const char* place;
  int64_t step;
};

// product[row][0 .. COLUMNS) = left[row][.] right[.][0 .. COLUMNS), or is increased by it.
template <int COUNT>
void multiply(const float* left, int64_t left_stride, const float* right, int64_t depth,
              float* product, int64_t product_stride, bool add, Wanted wanted) {
  Floats sums[COUNT][2] = {};
  if (add) {
#pragma GCC unroll 12
    for (int row = 0; row < COUNT; ++row) {
      sums[row][0] = load(product + row * product_stride);
      sums[row][1] = load(product + row * product_stride + LANES);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    const Floats first = load(right + k * COLUMNS);
    const Floats second = load(right + k * COLUMNS + LANES);
    __builtin_prefetch(wanted.place + k * wanted.step, 0, 2);  // to the second cache
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
void multiply_few(int64_t count, const float* left, int64_t left_stride, const float* right,
                  int64_t depth, float* product, int64_t product_stride, bool add,
                  Wanted wanted) {
  if (count == COUNT)
    multiply<COUNT>(left, left_stride, right, depth, product, product_stride, add, wanted);
  else if constexpr (COUNT > 1)
    multiply_few<COUNT - 1>(count, left, left_stride, right, depth, product, product_stride,
                            add, wanted);
}

// The same for any number of rows, in parts of nearly equal size: a small one keeps the
// processor waiting for its sums. Each part asks for its share of the right matrix that is
// `next`, as large as this one: so weights come from memory all the time, not with the first
// part alone.
inline void multiply_rows(int64_t count, const float* left, int64_t left_stride,
                          const float* right, int64_t depth, float* product,
                          int64_t product_stride, const float* next, bool add = false) {
  const int64_t parts = (count + ROWS - 1) / ROWS;
  const int64_t step = COLUMNS * static_cast<int64_t>(sizeof(float)) / parts;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = count * part / parts, last = count * (part + 1) / parts;
    const Wanted wanted{reinterpret_cast<const char*>(next) + part * depth * step, step};
    multiply_few<ROWS>(last - first, left + first * left_stride, left_stride, right, depth,
                       product + first * product_stride, product_stride, add, wanted);
  }
}

}  // namespace
