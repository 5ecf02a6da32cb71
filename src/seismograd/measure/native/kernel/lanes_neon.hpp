// Vectors of NEON: four float32. The words that `measure.inc` is written in.

constexpr int kLanes = 4;
constexpr int kMaskStride = 4;  // bits per byte in what `below` returns
using Floats = float32x4_t;
using Doubles = float64x2_t;  // half as many
using Integers = uint32x4_t;
using Bytes = uint8x16_t;  // one byte for each number of four vectors

struct Four {
  Floats a, b, c, d;
};
// The magnitudes of their numbers as integers, which are in the same order: of float32, and of 16-bit numbers, two to a lane.
struct Sizes {
  Integers a, b, c, d;
};
struct ShortSizes {
  uint16x8_t p, q;
};

SEISMOGRAD_INLINE Floats no_floats() { return vdupq_n_f32(0); }
SEISMOGRAD_INLINE Floats add(Floats x, Floats y) { return vaddq_f32(x, y); }
SEISMOGRAD_INLINE Floats add_square(Floats sum, Floats x) { return vfmaq_f32(sum, x, x); }
SEISMOGRAD_INLINE void store(float* to, Floats x) { vst1q_f32(to, x); }

SEISMOGRAD_INLINE Doubles no_doubles() { return vdupq_n_f64(0); }
SEISMOGRAD_INLINE Doubles load_doubles(const double* x) { return vld1q_f64(x); }
SEISMOGRAD_INLINE Doubles load_doubles(const float* x) { return vcvt_f64_f32(vld1_f32(x)); }
SEISMOGRAD_INLINE Doubles add(Doubles x, Doubles y) { return vaddq_f64(x, y); }
SEISMOGRAD_INLINE Doubles add_square(Doubles sum, Doubles x) { return vfmaq_f64(sum, x, x); }
SEISMOGRAD_INLINE Doubles multiply(Doubles x, double scale) { return vmulq_n_f64(x, scale); }
SEISMOGRAD_INLINE double total(Doubles x) { return vaddvq_f64(x); }
SEISMOGRAD_INLINE double total(Floats x) { return total(vaddq_f64(vcvt_f64_f32(vget_low_f32(x)), vcvt_high_f64_f32(x))); }

SEISMOGRAD_INLINE Four load(const float* x) { return {vld1q_f32(x), vld1q_f32(x + 4), vld1q_f32(x + 8), vld1q_f32(x + 12)}; }
SEISMOGRAD_INLINE uint16x8_t eight_words(const void* x) { return vreinterpretq_u16_u8(vld1q_u8(static_cast<const uint8_t*>(x))); }
SEISMOGRAD_INLINE Floats lower_wide(uint16x8_t x) { return vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(x), 16)); }
SEISMOGRAD_INLINE Floats upper_wide(uint16x8_t x) { return vreinterpretq_f32_u32(vshll_high_n_u16(x, 16)); }
SEISMOGRAD_INLINE Four load(const BFloat16* x) {
  const uint16x8_t p = eight_words(x), q = eight_words(x + 8);
  return {lower_wide(p), upper_wide(p), lower_wide(q), upper_wide(q)};
}
SEISMOGRAD_INLINE Floats lower_half(uint16x8_t x) { return vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(x))); }
SEISMOGRAD_INLINE Floats upper_half(uint16x8_t x) { return vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(x))); }
SEISMOGRAD_INLINE Four load(const Half* x) {
  const uint16x8_t p = eight_words(x), q = eight_words(x + 8);
  return {lower_half(p), upper_half(p), lower_half(q), upper_half(q)};
}

SEISMOGRAD_INLINE Integers no_integers() { return vdupq_n_u32(0); }
SEISMOGRAD_INLINE Integers lower_halves(Integers x) { return vandq_u32(x, vdupq_n_u32(0xffff)); }
SEISMOGRAD_INLINE Integers upper_halves(Integers x) { return vshrq_n_u32(x, 16); }
SEISMOGRAD_INLINE Integers largest(Integers x, Integers y) { return vmaxq_u32(x, y); }

SEISMOGRAD_INLINE Integers magnitude(Floats x) { return vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0x7fffffff)); }
SEISMOGRAD_INLINE Sizes sizes(const float*, const Four& x) { return {magnitude(x.a), magnitude(x.b), magnitude(x.c), magnitude(x.d)}; }
SEISMOGRAD_INLINE Integers largest(Integers top, const Sizes& x) { return largest(top, largest(largest(x.a, x.b), largest(x.c, x.d))); }
SEISMOGRAD_INLINE Integers count_zeros(Integers count, const Sizes& x) {
  return vsubq_u32(count, vaddq_u32(vaddq_u32(vceqzq_u32(x.a), vceqzq_u32(x.b)), vaddq_u32(vceqzq_u32(x.c), vceqzq_u32(x.d))));
}

SEISMOGRAD_INLINE ShortSizes sizes(const void* x, const Four&) {
  const uint16x8_t p = eight_words(x), q = eight_words(static_cast<const char*>(x) + 16), no_sign = vdupq_n_u16(0x7fff);
  return {vandq_u16(p, no_sign), vandq_u16(q, no_sign)};
}
SEISMOGRAD_INLINE Integers largest(Integers top, const ShortSizes& x) {
  return vreinterpretq_u32_u16(vmaxq_u16(vreinterpretq_u16_u32(top), vmaxq_u16(x.p, x.q)));
}
SEISMOGRAD_INLINE Integers count_zeros(Integers count, const ShortSizes& x) {
  return vreinterpretq_u32_u16(vsubq_u16(vreinterpretq_u16_u32(count), vaddq_u16(vceqzq_u16(x.p), vceqzq_u16(x.q))));
}

SEISMOGRAD_INLINE uint32_t largest_of(Integers x) { return vmaxvq_u32(x); }
SEISMOGRAD_INLINE int64_t total_of(Integers x) { return vaddvq_u32(x); }

// The upper byte of (upper half + 0x80), without its sign: the half-exponent.
SEISMOGRAD_INLINE Bytes half_exponents(uint16x8_t upper_p, uint16x8_t upper_q) {
  const uint16x8_t half = vdupq_n_u16(0x80);
  const Bytes p = vreinterpretq_u8_u16(vaddq_u16(upper_p, half)), q = vreinterpretq_u8_u16(vaddq_u16(upper_q, half));
  return vandq_u8(vuzp2q_u8(p, q), vdupq_n_u8(0x7f));
}
SEISMOGRAD_INLINE uint16x8_t upper_halves(Floats x, Floats y) { return vuzp2q_u16(vreinterpretq_u16_f32(x), vreinterpretq_u16_f32(y)); }
SEISMOGRAD_INLINE Bytes exponents(const void*, const Four& x) { return half_exponents(upper_halves(x.a, x.b), upper_halves(x.c, x.d)); }
SEISMOGRAD_INLINE Bytes exponents(const BFloat16* x, const Four&) { return half_exponents(eight_words(x), eight_words(x + 8)); }

SEISMOGRAD_INLINE Bytes no_bytes() { return vdupq_n_u8(0); }
SEISMOGRAD_INLINE Bytes all_bytes(int value) { return vdupq_n_u8(static_cast<uint8_t>(value)); }
SEISMOGRAD_INLINE Bytes load_bytes(const uint8_t* x) { return vld1q_u8(x); }
SEISMOGRAD_INLINE void store_bytes(uint8_t* to, Bytes x) { vst1q_u8(to, x); }
SEISMOGRAD_INLINE Bytes count_equal(Bytes count, Bytes x, Bytes value) { return vsubq_u8(count, vceqq_u8(x, value)); }
SEISMOGRAD_INLINE int64_t total_of_bytes(Bytes x) { return vaddlvq_u8(x); }
// Which bytes are less than `first`, but not zero.
SEISMOGRAD_INLINE uint64_t below(Bytes x, Bytes first) {
  // NEON has no mask of bytes; narrowing leaves four bits of each (Arm, Porting x86 vector bitmask optimizations to Arm NEON, 2022).
  const Bytes is_below = vandq_u8(vcltq_u8(x, first), vtstq_u8(x, x));
  return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(is_below), 4)), 0) & 0x8888888888888888ull;
}
