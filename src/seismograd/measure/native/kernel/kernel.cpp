// Measures many tensors in one call and one read of their memory: from a table of pointers to arrays of numbers.
//
// A plain C interface, called through ctypes (`library.py`): it depends on neither Python's nor torch's ABI.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "entry.hpp"
#include "machine.hpp"
#include "moments.hpp"
#include "sketch.hpp"
#include "split.hpp"
#include "updates.hpp"

#if defined(_WIN32)
#define SEISMOGRAD_EXPORT extern "C" __declspec(dllexport)
#else
#define SEISMOGRAD_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace seismograd {

namespace portable {
#include "lanes_portable.hpp"
#include "measure.inc"
#include "sketch.inc"
}  // namespace portable

// Each compiler has its own word for "from here on, these instructions may be used"; MSVC needs none.
#if SEISMOGRAD_X86
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
namespace avx2 {
#include "lanes_avx2.hpp"
#include "measure.inc"
#include "sketch.inc"
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
namespace avx512 {
#include "lanes_avx512.hpp"
#include "measure.inc"
#include "sketch.inc"
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#elif SEISMOGRAD_ARM64
namespace neon {
#include "lanes_neon.hpp"
#include "measure.inc"
#include "sketch.inc"
}  // namespace neon
#endif

namespace {

struct Functions {
  MeasurePiece measure;
  ReadPiece read;
  SketchPiece sketch;
};

// What measures with a set of instructions; nulls where this processor or this build has not got it.
Functions functions_of(InstructionSet set) {
  if (!processor_has(set)) return {nullptr, nullptr, nullptr};
  switch (set) {
#if SEISMOGRAD_X86
    case kAvx2:
      return {avx2::measure, avx2::read, avx2::sketch};
    case kAvx512:
      return {avx512::measure, avx512::read, avx512::sketch};
#elif SEISMOGRAD_ARM64
    case kNeon:
      return {neon::measure, neon::read, neon::sketch};
#endif
    default:
      return {portable::measure, portable::read, portable::sketch};
  }
}

// Of every set. Asked for once: in a virtual machine each question to the processor takes microseconds.
const std::array<Functions, kNumInstructionSets>& all_functions() {
  static const std::array<Functions, kNumInstructionSets> all = [] {
    std::array<Functions, kNumInstructionSets> found{};
    for (int set = 0; set < kNumInstructionSets; ++set) found[set] = functions_of(static_cast<InstructionSet>(set));
    return found;
  }();
  return all;
}

// The number of a set that there is: `set` itself, or the best if that is negative; -1 where there is none such.
int choose_set(int set) {
  if (set >= kNumInstructionSets) return -1;
  if (set >= 0) return all_functions()[set].measure ? set : -1;
  int best = kNumInstructionSets - 1;
  while (!all_functions()[best].measure) --best;
  return best;
}

double norm_of(const Partial& partial) {
  if (partial.large_squares != 0) {
    return std::sqrt(partial.large_squares + partial.squares * kLargeScale * kLargeScale) / kLargeScale;
  }
  if (partial.squares != 0) return std::sqrt(partial.squares + partial.small_squares / kSmallScale / kSmallScale);
  return std::sqrt(partial.small_squares) / kSmallScale;
}

// Infinite only where a number is.
double sum_of(const Partial& partial) {
  constexpr double kMost = std::numeric_limits<double>::max();
  if (!std::isfinite(partial.large_sum)) return partial.sum + partial.large_sum;
  return partial.sum + std::fmax(-kMost, std::fmin(kMost, partial.large_sum / kLargeScale));
}

void join(Partial& whole, const Partial& part) {
  whole.sum += part.sum;
  whole.large_sum += part.large_sum;
  whole.small_squares += part.small_squares;
  whole.squares += part.squares;
  whole.large_squares += part.large_squares;
  if (part.largest_bits > whole.largest_bits) whole.largest_bits = part.largest_bits;
  whole.zeros += part.zeros;
  whole.nonfinite += part.nonfinite;
}

int64_t take_dead_rows(const Entry& entry) {
  const int64_t num_dead = entry.rows->num_dead.exchange(entry.num_rows);
  for (int64_t row = 0; row < entry.num_rows; ++row) entry.rows->alive[row].store(0, std::memory_order_relaxed);
  return num_dead;
}

// The order of the rows of `numbers`  # (kNumNumbers, n); `library.py` names them in the same order.
enum { kNorm, kLargest, kSum, kZeros, kNonfinite, kDeadRows, kNumNumbers };

void measure_all(const Entry* entries, int64_t n, int num_threads, MeasurePiece measure_piece, double* numbers, double* exponents) {
  const Split split(entries, n);
  const size_t num_pieces = split.pieces.size();
  std::vector<Partial> partials(num_pieces);
  std::vector<uint32_t> bins(exponents ? num_pieces * kNumBins : 0);
  split.run(num_threads, [&](int64_t p) {
    const DenormalMode flush(true);
    const Piece& piece = split.pieces[p];
    const bool counts = exponents && (entries[piece.entry].wanted & kExponents);
    measure_piece(entries[piece.entry], piece.begin, piece.end, partials[p], counts ? bins.data() + p * kNumBins : nullptr);
  });
  const DenormalMode keep(false);
  size_t p = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Entry& entry = entries[i];
    const bool counts = exponents && (entry.wanted & kExponents);
    if (counts) std::memset(exponents + i * kNumBins, 0, kNumBins * sizeof(double));
    Partial whole;
    for (; p < num_pieces && split.pieces[p].entry == i; ++p) {
      join(whole, partials[p]);
      for (int bin = 0; counts && bin < kNumBins; ++bin) exponents[i * kNumBins + bin] += bins[p * kNumBins + bin];
    }
    numbers[kNorm * n + i] = norm_of(whole);
    std::memcpy(&numbers[kLargest * n + i], &whole.largest_bits, sizeof(double));
    numbers[kSum * n + i] = sum_of(whole);
    numbers[kZeros * n + i] = static_cast<double>(whole.zeros);
    numbers[kNonfinite * n + i] = static_cast<double>(whole.nonfinite);
    numbers[kDeadRows * n + i] = entry.rows && (entry.wanted & kReportRows) ? static_cast<double>(take_dead_rows(entry)) : 0;
  }
}

// Numbers of one tensor that are sketched together: whole runs from `first` on, or a part of a single one.
struct SketchTask {
  int64_t entry, first, num_runs, begin, end;
};

std::vector<SketchTask> sketch_tasks(const Sketched* entries, int64_t n) {
  std::vector<SketchTask> tasks;
  for (int64_t i = 0; i < n; ++i) {
    const Sketched& entry = entries[i];
    if (entry.run <= 0) continue;
    const int64_t together = entry.run < kPieceNumbers ? kPieceNumbers / entry.run : 1;
    for (int64_t first = 0; first < entry.num_runs; first += together) {
      const int64_t num_runs = together < entry.num_runs - first ? together : entry.num_runs - first;
      for (int64_t begin = 0; begin < entry.run; begin += kPieceNumbers) {
        const int64_t end = kPieceNumbers < entry.run - begin ? begin + kPieceNumbers : entry.run;
        tasks.push_back({i, first, num_runs, begin, end});
      }
    }
  }
  return tasks;
}

void sketch_all(const Sketched* entries, int64_t n, int num_threads, SketchPiece sketch_piece, double* sums) {
  const std::vector<SketchTask> tasks = sketch_tasks(entries, n);
  std::vector<double> partials(tasks.size() * kSketchWidth);
  auto do_task = [&](int64_t t) {
    const DenormalMode flush(true);
    const SketchTask& task = tasks[t];
    const Sketched& entry = entries[task.entry];
    const char* numbers = static_cast<const char*>(entry.numbers);
    const int64_t size = item_size_of(entry.dtype);
    for (int64_t run = task.first; run < task.first + task.num_runs; ++run) {
      sketch_piece(numbers + (run * entry.run + task.begin) * size, entry.dtype, entry.starts[run] + task.begin, task.end - task.begin,
                   &partials[t * kSketchWidth]);
    }
  };
  pool().run(tasks.size() < 8 ? 1 : num_threads, static_cast<int64_t>(tasks.size()), do_task);
  std::memset(sums, 0, n * kSketchWidth * sizeof(double));
  for (size_t t = 0; t < tasks.size(); ++t) {
    for (int i = 0; i < kSketchWidth; ++i) sums[tasks[t].entry * kSketchWidth + i] += partials[t * kSketchWidth + i];
  }
}

}  // namespace

}  // namespace seismograd

// Grows whenever something in this interface changes, so that `library.py` never calls a library of another day.
SEISMOGRAD_EXPORT int32_t seismograd_interface() { return 3; }

// Whether this processor and this build have a set of instructions, by its number in machine.hpp.
SEISMOGRAD_EXPORT int32_t seismograd_has(int32_t set) { return set >= 0 && seismograd::choose_set(set) == set; }

// Measures n entries. `numbers`  # (6, n) receives norm, largest, sum, zeros, nonfinite, dead rows; `exponents`  # (n, 64) the counts of
// those that want them, null if none does. A negative `set` is the best there is. Returns the set that was used, or -1 where nothing could
// be measured.
SEISMOGRAD_EXPORT int32_t seismograd_measure(const seismograd::Entry* entries, int64_t n, int32_t num_threads, int32_t set, double* numbers,
                                             double* exponents) {
  try {
    const int used = seismograd::choose_set(set);
    if (used < 0) return -1;
    seismograd::measure_all(entries, n, num_threads, seismograd::all_functions()[used].measure, numbers, exponents);
    return used;
  } catch (...) {
    return -1;  // no memory
  }
}

// Copies n slices of weights, and marks where their gradients are not zero.
SEISMOGRAD_EXPORT void seismograd_keep(const seismograd::Slice* slices, int64_t n) { seismograd::keep_all(slices, n); }

// What has become of slices that were kept. `numbers`  # (2, n) receives the norm of the update over that of the weights before it, and
// the share of the marked numbers that did not move.
SEISMOGRAD_EXPORT void seismograd_compare(const seismograd::Slice* slices, int64_t n, double* numbers) {
  seismograd::compare_all(slices, n, numbers);
}

// How many of n numbers of a dtype are `low` or below, or `high` or above; NaN is neither.
SEISMOGRAD_EXPORT int64_t seismograd_outside(const void* numbers, int64_t n, int64_t dtype, double low, double high) {
  const seismograd::DenormalMode keep(false);
  int64_t num = 0;
  seismograd::with_type(dtype, [&](auto number) {
    const auto* each = static_cast<const decltype(number)*>(numbers);
    for (int64_t i = 0; i < n; ++i) {
      const double x = seismograd::wide(each[i]);
      num += (x <= low) | (x >= high);
    }
  });
  return num;
}

// How large the gradients of one parameter are beside what its optimizer remembers: `numbers`  # (4,) receives the `Ratios`.
SEISMOGRAD_EXPORT void seismograd_moments(const seismograd::Moments* moments, double* numbers) {
  const seismograd::DenormalMode keep(false);
  const seismograd::Ratios found = seismograd::ratios_of(*moments);
  std::memcpy(numbers, &found, sizeof found);
}

// Sketches n tensors, or the parts of them that a process holds. `sums`  # (n, 64). Returns -1 where nothing could be sketched.
SEISMOGRAD_EXPORT int32_t seismograd_sketch(const seismograd::Sketched* entries, int64_t n, int32_t num_threads, int32_t set, double* sums) {
  try {
    const int used = seismograd::choose_set(set);
    if (used < 0) return -1;
    seismograd::sketch_all(entries, n, num_threads, seismograd::all_functions()[used].sketch, sums);
    return used;
  } catch (...) {
    return -1;  // no memory
  }
}

// Reads the same memory on the same threads and does nothing with it: what benchmarks compare with.
SEISMOGRAD_EXPORT uint64_t seismograd_read(const seismograd::Entry* entries, int64_t n, int32_t num_threads) {
  const seismograd::ReadPiece read_piece = seismograd::all_functions()[seismograd::choose_set(-1)].read;
  const seismograd::Split split(entries, n);
  std::atomic<uint64_t> seen{0};
  split.run(num_threads, [&](int64_t p) {
    const seismograd::Piece& piece = split.pieces[p];
    const int64_t size = seismograd::Split::item_size(entries[piece.entry]);
    seen |= read_piece(static_cast<const char*>(entries[piece.entry].numbers) + piece.begin * size, (piece.end - piece.begin) * size);
  });
  return seen;
}

// Ends the threads; a later call starts others.
SEISMOGRAD_EXPORT void seismograd_stop() { seismograd::pool().stop(); }
