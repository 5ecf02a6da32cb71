// What goes into sketches and comes out, and the random bits that signs are made of: docs/record.md defines them.
#pragma once

#include <cstdint>

namespace seismograd {

constexpr int kSketchWidth = 64;

// The part of a tensor that a process holds: `num_runs` runs of `run` numbers each, dense in memory one after the other; run k stands at
// positions [starts[k], starts[k] + run) of the whole tensor.
struct Sketched {
  const void* numbers;
  const int64_t* starts;
  int64_t num_runs;
  int64_t run;
  int64_t dtype;  // DType
};

// The finalizer of SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014).
inline uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// Adds the 64 signed sums of `count` numbers at positions from `start` on.
using SketchPiece = void (*)(const void* numbers, int64_t dtype, int64_t start, int64_t count, double* sums);

}  // namespace seismograd
