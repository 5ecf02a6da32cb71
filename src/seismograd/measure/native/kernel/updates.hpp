// What a step does to slices of the weights: copies from before it against what is there after it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "entry.hpp"
#include "machine.hpp"

namespace seismograd {

// Contiguous numbers of one weight. `kept` and `marks` have room for `count` of them; marks say which had a gradient other than zero.
struct Slice {
  const void* weights;
  const void* gradients;  // null: leave the marks as they are
  void* kept;
  uint8_t* marks;
  int64_t count;
  int64_t dtype;           // DType
  int64_t gradient_dtype;  // DType
};

inline bool is_zero(float x) { return x == 0; }
inline bool is_zero(double x) { return x == 0; }
inline bool is_zero(BFloat16 x) { return (x.bits & 0x7fffu) == 0; }
inline bool is_zero(Half x) { return (x.bits & 0x7fffu) == 0; }
inline double wide(double x) { return x; }

template <class Work>
void with_type(int64_t dtype, Work work) {
  switch (static_cast<DType>(dtype)) {
    case DType::kFloat32:
      return work(float());
    case DType::kBFloat16:
      return work(BFloat16());
    case DType::kFloat16:
      return work(Half());
    case DType::kFloat64:
      return work(double());
  }
}

template <class Number>
void mark(const Slice& slice, Number) {
  const Number* gradients = static_cast<const Number*>(slice.gradients);
  for (int64_t i = 0; i < slice.count; ++i) slice.marks[i] = !is_zero(gradients[i]);
}

// ratio: norm of the update over the norm before it; unmoved: share of the marked numbers that are what they were. 0/0 is NaN.
template <class Number>
void compare(const Slice& slice, Number, double& ratio, double& unmoved) {
  constexpr int kChains = 8;  // sums side by side, which the compiler puts into vectors
  const Number* now = static_cast<const Number*>(slice.weights);
  const Number* before = static_cast<const Number*>(slice.kept);
  double updates[kChains] = {}, squares[kChains] = {};
  int64_t num_marked = 0, num_unmoved = 0;
  auto add = [&](int64_t i, int chain) {
    const double was = wide(before[i]), is = wide(now[i]);
    updates[chain] += (is - was) * (is - was);
    squares[chain] += was * was;
    num_marked += slice.marks[i];
    num_unmoved += slice.marks[i] & static_cast<uint8_t>(is == was);
  };
  int64_t i = 0;
  for (; i + kChains <= slice.count; i += kChains) {
    for (int chain = 0; chain < kChains; ++chain) add(i + chain, chain);
  }
  for (; i < slice.count; ++i) add(i, 0);
  double update = 0, square = 0;
  for (int chain = 0; chain < kChains; ++chain) {
    update += updates[chain];
    square += squares[chain];
  }
  ratio = std::sqrt(update) / std::sqrt(square);
  unmoved = static_cast<double>(num_unmoved) / static_cast<double>(num_marked);
}

inline int64_t size_of(int64_t dtype) {
  const DType type = static_cast<DType>(dtype);
  return type == DType::kFloat64 ? 8 : type == DType::kFloat32 ? 4 : 2;
}

inline void mark_where_asked(const Slice& slice) {
  if (slice.gradients) with_type(slice.gradient_dtype, [&](auto number) { mark(slice, number); });
}

inline void keep_all(const Slice* slices, int64_t n) {
  const DenormalMode keep(false);
  for (int64_t i = 0; i < n; ++i) {
    std::memcpy(slices[i].kept, slices[i].weights, static_cast<size_t>(slices[i].count * size_of(slices[i].dtype)));
    mark_where_asked(slices[i]);
  }
}

inline void compare_all(const Slice* slices, int64_t n, double* numbers) {
  const DenormalMode keep(false);
  for (int64_t i = 0; i < n; ++i) {
    mark_where_asked(slices[i]);
    with_type(slices[i].dtype, [&](auto number) { compare(slices[i], number, numbers[i], numbers[n + i]); });
  }
}

}  // namespace seismograd
