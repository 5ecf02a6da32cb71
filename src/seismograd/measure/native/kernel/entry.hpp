// What goes in and what comes out: plain memory, laid out as `library.py` says it too.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

namespace seismograd {

enum class DType : int64_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2, kFloat64 = 3 };

struct BFloat16 {
  uint16_t bits;
};

struct Half {
  uint16_t bits;
};

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline float wide(float x) { return x; }

inline float wide(BFloat16 x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }

inline float wide(Half x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16, rest = (x.bits & 0x7fffu) << 13;
  if (rest >= 0x7c00u << 13) return float_of(sign | 0x7f800000u | rest);  // NaN and infinities
  if (rest >= 0x0400u << 13) return float_of(sign | (rest + (112u << 23)));
  const float denormal = static_cast<float>(x.bits & 0x7fffu) * 0x1p-24f;
  return sign ? -denormal : denormal;
}

// Which rows of a gradient have had a number other than zero since the last sample; one byte a row, because two threads may write
// neighbours. Atomic because the ends of two pieces may lie in one row.
struct Rows {
  std::atomic<int64_t> num_dead;
  std::atomic<uint8_t> alive[1];  // (num_rows,)
};

enum Wanted : int64_t { kExponents = 1, kReportRows = 2 };

// One tensor, dense in memory in whatever order of its dimensions. Memory holds its rows (the first dimension) in runs of `run` numbers,
// row after row and from the first again: run k belongs to row k % num_rows.
struct Entry {
  const void* numbers;
  int64_t count;
  Rows* rows;  // null: no rows to remember
  int64_t num_rows;
  int64_t run;
  int64_t dtype;   // DType
  int64_t wanted;  // Wanted
};

constexpr int kNumBins = 64;
// The 128 half-exponents v = (e + 128) / 2 of float32 numbers 2^e <= |x| < 2^(e + 1), and where the first bin lies among them.
constexpr int kNumCounts = 128;
constexpr int kFirstBin = 16;

// What is known of a piece of a tensor. Squares are summed apart where they would underflow, as they are, and where they would overflow
// (Blue, A Portable Fortran Program to Find the Euclidean Norm of a Vector, 1978): of float64 only; narrower ones are all usual. So are the
// numbers themselves where their sum may overflow, for a finite number that became infinite and an infinity of the other sign make NaN.
struct Partial {
  double sum = 0;
  double large_sum = 0;  // times kLargeScale
  double small_squares = 0, squares = 0, large_squares = 0;
  uint64_t largest_bits = 0;  // of the largest magnitude as a float64; as integers they are in the same order, and NaN is above all
  int64_t zeros = 0;
  int64_t nonfinite = 0;
};

constexpr double kSmallScale = 0x1p+600, kLargeScale = 0x1p-600;

// Measures numbers [begin, end) of an entry; adds to bins where that is not null.
using MeasurePiece = void (*)(const Entry& entry, int64_t begin, int64_t end, Partial& partial, uint32_t* bins);

// Reads bytes and does nothing with them: what every measuring is compared with.
using ReadPiece = uint64_t (*)(const void* bytes, int64_t num_bytes);

}  // namespace seismograd
