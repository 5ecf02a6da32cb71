// Vectors of AVX-512 (F, BW, DQ, VL): sixteen float32. The words that `measure.inc` is written in.

constexpr int kLanes = 16;
constexpr int kMaskStride = 1;  // bits per byte in what `below` returns
using Floats = __m512;
using Doubles = __m512d;  // half as many
using Integers = __m512i;
using Bytes = __m512i;  // one byte for each number of four vectors

struct Four {
  Floats a, b, c, d;
};
// The magnitudes of their numbers as integers, which are in the same order: of float32, and of 16-bit numbers, two to a lane.
struct Sizes {
  Integers a, b, c, d;
};
struct ShortSizes {
  Integers p, q;
};

SEISMOGRAD_INLINE Floats no_floats() { return _mm512_setzero_ps(); }
SEISMOGRAD_INLINE Floats add(Floats x, Floats y) { return _mm512_add_ps(x, y); }
SEISMOGRAD_INLINE Floats add_square(Floats sum, Floats x) { return _mm512_fmadd_ps(x, x, sum); }
SEISMOGRAD_INLINE void store(float* to, Floats x) { _mm512_storeu_ps(to, x); }

SEISMOGRAD_INLINE Doubles no_doubles() { return _mm512_setzero_pd(); }
SEISMOGRAD_INLINE Doubles load_doubles(const double* x) { return _mm512_loadu_pd(x); }
SEISMOGRAD_INLINE Doubles load_doubles(const float* x) { return _mm512_cvtps_pd(_mm256_loadu_ps(x)); }
SEISMOGRAD_INLINE Doubles add(Doubles x, Doubles y) { return _mm512_add_pd(x, y); }
SEISMOGRAD_INLINE Doubles add_square(Doubles sum, Doubles x) { return _mm512_fmadd_pd(x, x, sum); }
SEISMOGRAD_INLINE Doubles multiply(Doubles x, double scale) { return _mm512_mul_pd(x, _mm512_set1_pd(scale)); }
SEISMOGRAD_INLINE double total(Doubles x) { return _mm512_reduce_add_pd(x); }
SEISMOGRAD_INLINE double total(Floats x) {
  return total(_mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))));
}

SEISMOGRAD_INLINE Four load(const float* x) {
  return {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16), _mm512_loadu_ps(x + 32), _mm512_loadu_ps(x + 48)};
}
SEISMOGRAD_INLINE Integers sixteen_bits(const void* x) { return _mm512_loadu_si512(x); }
SEISMOGRAD_INLINE Four load(const BFloat16* x) {
  // Even and odd ones apart, for one instruction a vector: nothing here depends on their order.
  const Integers odd = _mm512_set1_epi32(static_cast<int>(0xffff0000)), p = sixteen_bits(x), q = sixteen_bits(x + 32);
  return {_mm512_castsi512_ps(_mm512_slli_epi32(p, 16)), _mm512_castsi512_ps(_mm512_and_si512(p, odd)),
          _mm512_castsi512_ps(_mm512_slli_epi32(q, 16)), _mm512_castsi512_ps(_mm512_and_si512(q, odd))};
}
SEISMOGRAD_INLINE Floats sixteen_halves(const Half* x) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x))); }
SEISMOGRAD_INLINE Four load(const Half* x) {
  return {sixteen_halves(x), sixteen_halves(x + 16), sixteen_halves(x + 32), sixteen_halves(x + 48)};
}

SEISMOGRAD_INLINE Integers no_integers() { return _mm512_setzero_si512(); }
SEISMOGRAD_INLINE Integers lower_halves(Integers x) { return _mm512_and_si512(x, _mm512_set1_epi32(0xffff)); }
SEISMOGRAD_INLINE Integers upper_halves(Integers x) { return _mm512_srli_epi32(x, 16); }
SEISMOGRAD_INLINE Integers largest(Integers x, Integers y) { return _mm512_max_epi32(x, y); }

SEISMOGRAD_INLINE Integers magnitude(Floats x) { return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)); }
SEISMOGRAD_INLINE Sizes sizes(const float*, const Four& x) { return {magnitude(x.a), magnitude(x.b), magnitude(x.c), magnitude(x.d)}; }
SEISMOGRAD_INLINE Integers largest(Integers top, const Sizes& x) { return largest(top, largest(largest(x.a, x.b), largest(x.c, x.d))); }
SEISMOGRAD_INLINE Integers count_zero(Integers count, Integers x) {
  return _mm512_mask_sub_epi32(count, _mm512_testn_epi32_mask(x, x), count, _mm512_set1_epi32(-1));
}
SEISMOGRAD_INLINE Integers count_zeros(Integers count, const Sizes& x) {
  return count_zero(count_zero(count_zero(count_zero(count, x.a), x.b), x.c), x.d);
}

SEISMOGRAD_INLINE ShortSizes sizes(const void* x, const Four&) {
  const Integers p = sixteen_bits(x), q = sixteen_bits(static_cast<const char*>(x) + 64), no_sign = _mm512_set1_epi16(0x7fff);
  return {_mm512_and_si512(p, no_sign), _mm512_and_si512(q, no_sign)};
}
SEISMOGRAD_INLINE Integers largest(Integers top, const ShortSizes& x) { return _mm512_max_epi16(top, _mm512_max_epi16(x.p, x.q)); }
SEISMOGRAD_INLINE Integers count_short_zero(Integers count, Integers x) {
  return _mm512_mask_sub_epi16(count, _mm512_testn_epi16_mask(x, x), count, _mm512_set1_epi16(-1));
}
SEISMOGRAD_INLINE Integers count_zeros(Integers count, const ShortSizes& x) {
  return count_short_zero(count_short_zero(count, x.p), x.q);
}

SEISMOGRAD_INLINE uint32_t largest_of(Integers x) { return static_cast<uint32_t>(_mm512_reduce_max_epi32(x)); }
SEISMOGRAD_INLINE int64_t total_of(Integers x) { return _mm512_reduce_add_epi32(x); }

// The upper byte of (upper half + 0x80), without its sign: the half-exponent.
SEISMOGRAD_INLINE Bytes half_exponents(Integers upper_p, Integers upper_q) {
  const Integers half = _mm512_set1_epi16(0x80), p = _mm512_add_epi16(upper_p, half), q = _mm512_add_epi16(upper_q, half);
  const Bytes mixed = _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaaull, _mm512_srli_epi16(p, 8), q);
  return _mm512_and_si512(mixed, _mm512_set1_epi8(0x7f));
}
SEISMOGRAD_INLINE Integers upper_halves(Floats x, Floats y) {
  return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(_mm512_castps_si512(x), 16), _mm512_castps_si512(y));
}
SEISMOGRAD_INLINE Bytes exponents(const void*, const Four& x) { return half_exponents(upper_halves(x.a, x.b), upper_halves(x.c, x.d)); }
SEISMOGRAD_INLINE Bytes exponents(const BFloat16* x, const Four&) { return half_exponents(sixteen_bits(x), sixteen_bits(x + 32)); }

SEISMOGRAD_INLINE Bytes no_bytes() { return _mm512_setzero_si512(); }
SEISMOGRAD_INLINE Bytes all_bytes(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
SEISMOGRAD_INLINE Bytes load_bytes(const uint8_t* x) { return _mm512_loadu_si512(x); }
SEISMOGRAD_INLINE void store_bytes(uint8_t* to, Bytes x) { _mm512_storeu_si512(to, x); }
SEISMOGRAD_INLINE Bytes count_equal(Bytes count, Bytes x, Bytes value) {
  return _mm512_mask_sub_epi8(count, _mm512_cmpeq_epi8_mask(x, value), count, _mm512_set1_epi8(-1));
}
SEISMOGRAD_INLINE int64_t total_of_bytes(Bytes x) { return _mm512_reduce_add_epi64(_mm512_sad_epu8(x, _mm512_setzero_si512())); }
// Which bytes are less than `first`, but not zero.
SEISMOGRAD_INLINE uint64_t below(Bytes x, Bytes first) { return _mm512_cmplt_epu8_mask(x, first) & _mm512_test_epi8_mask(x, x); }
