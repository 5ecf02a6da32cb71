// What the processor can do, and how it treats denormal numbers.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#define SEISMOGRAD_X86 1
#include <immintrin.h>
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) || defined(_M_ARM64)
#define SEISMOGRAD_ARM64 1
#include <arm_neon.h>
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define SEISMOGRAD_INLINE static __forceinline
#define SEISMOGRAD_NOINLINE __declspec(noinline)
#else
#define SEISMOGRAD_INLINE static inline __attribute__((always_inline))
#define SEISMOGRAD_NOINLINE __attribute__((noinline))
#endif

namespace seismograd {

enum InstructionSet : int { kPortable = 0, kAvx2 = 1, kAvx512 = 2, kNeon = 3, kNumInstructionSets = 4 };

#if SEISMOGRAD_X86

inline void cpuid(uint32_t leaf, uint32_t out[4]) {
#if defined(_MSC_VER) && !defined(__clang__)
  __cpuidex(reinterpret_cast<int*>(out), static_cast<int>(leaf), 0);
#else
  __cpuid_count(leaf, 0, out[0], out[1], out[2], out[3]);
#endif
}

// Which registers the operating system saves when it switches threads.
inline uint64_t saved_registers() {
#if defined(_MSC_VER) && !defined(__clang__)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
#endif
}

// Intel's Software Developer's Manual, volume 1, sections 14.3 and 15.2.
inline bool processor_has(InstructionSet set) {
  if (set == kPortable) return true;
  uint32_t highest[4], basic[4], extended[4];
  cpuid(0, highest);
  if (set == kNeon || highest[0] < 7) return false;
  cpuid(1, basic);
  cpuid(7, extended);
  auto bit = [](uint32_t word, int index) { return (word >> index & 1) != 0; };
  const bool has_xgetbv = bit(basic[2], 27), fma = bit(basic[2], 12), f16c = bit(basic[2], 29), avx = bit(basic[2], 28);
  if (!has_xgetbv || !fma || !f16c || !avx || !bit(extended[1], 5)) return false;
  const uint64_t saved = saved_registers();
  if (set == kAvx2) return (saved & 0x6) == 0x6;
  const bool f = bit(extended[1], 16), dq = bit(extended[1], 17), bw = bit(extended[1], 30), vl = bit(extended[1], 31);
  return (saved & 0xe6) == 0xe6 && f && dq && bw && vl;
}

#elif SEISMOGRAD_ARM64

inline bool processor_has(InstructionSet set) { return set == kPortable || set == kNeon; }

#else

inline bool processor_has(InstructionSet set) { return set == kPortable; }

#endif

// While it lives, this thread takes denormal numbers as zero, or (`flush` false) as what they are, whatever mode the program is in: some
// processors need a hundred times as long for them, and a program that flushes them must not lose them here.
class DenormalMode {
 public:
  explicit DenormalMode(bool flush) : before_(get()) { set(flush ? kFlush : kKeep); }
  ~DenormalMode() { set(before_); }
  DenormalMode(const DenormalMode&) = delete;
  DenormalMode& operator=(const DenormalMode&) = delete;

 private:
#if SEISMOGRAD_X86
  using Mode = unsigned;
  static constexpr Mode kKeep = 0x1f80, kFlush = 0x9fc0;  // no exception trapped, rounded to nearest; FTZ is bit 15, DAZ bit 6
  static Mode get() { return _mm_getcsr(); }
  static void set(Mode mode) { _mm_setcsr(mode); }
#elif SEISMOGRAD_ARM64 && defined(__GNUC__)
  using Mode = uint64_t;
  static constexpr Mode kKeep = 0, kFlush = 1 << 24;  // FZ
  static Mode get() {
    Mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void set(Mode mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode)); }
#else
  using Mode = int;
  static constexpr Mode kKeep = 0, kFlush = 0;
  static Mode get() { return 0; }
  static void set(Mode) {}
#endif
  Mode before_;
};

}  // namespace seismograd
