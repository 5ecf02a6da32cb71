// Vectors of AVX2: eight float32. The words that `measure.inc` is written in.

constexpr int kLanes = 8;
constexpr int kMaskStride = 1;  // bits per byte in what `below` returns
using Floats = __m256;
using Doubles = __m256d;  // half as many
using Integers = __m256i;
using Bytes = __m256i;  // one byte for each number of four vectors

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

SEISMOGRAD_INLINE Floats no_floats() { return _mm256_setzero_ps(); }
SEISMOGRAD_INLINE Floats add(Floats x, Floats y) { return _mm256_add_ps(x, y); }
SEISMOGRAD_INLINE Floats add_square(Floats sum, Floats x) { return _mm256_fmadd_ps(x, x, sum); }
SEISMOGRAD_INLINE void store(float* to, Floats x) { _mm256_storeu_ps(to, x); }

SEISMOGRAD_INLINE Doubles no_doubles() { return _mm256_setzero_pd(); }
SEISMOGRAD_INLINE Doubles load_doubles(const double* x) { return _mm256_loadu_pd(x); }
SEISMOGRAD_INLINE Doubles load_doubles(const float* x) { return _mm256_cvtps_pd(_mm_loadu_ps(x)); }
SEISMOGRAD_INLINE Doubles add(Doubles x, Doubles y) { return _mm256_add_pd(x, y); }
SEISMOGRAD_INLINE Doubles add_square(Doubles sum, Doubles x) { return _mm256_fmadd_pd(x, x, sum); }
SEISMOGRAD_INLINE Doubles multiply(Doubles x, double scale) { return _mm256_mul_pd(x, _mm256_set1_pd(scale)); }
SEISMOGRAD_INLINE double total(Doubles x) {
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
SEISMOGRAD_INLINE double total(Floats x) {
  return total(_mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))));
}

SEISMOGRAD_INLINE Four load(const float* x) {
  return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24)};
}
SEISMOGRAD_INLINE Integers sixteen_bits(const void* x) { return _mm256_loadu_si256(static_cast<const __m256i*>(x)); }
SEISMOGRAD_INLINE Four load(const BFloat16* x) {
  // Even and odd ones apart, for one instruction a vector: nothing here depends on their order.
  const Integers odd = _mm256_set1_epi32(static_cast<int>(0xffff0000)), p = sixteen_bits(x), q = sixteen_bits(x + 16);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(p, 16)), _mm256_castsi256_ps(_mm256_and_si256(p, odd)),
          _mm256_castsi256_ps(_mm256_slli_epi32(q, 16)), _mm256_castsi256_ps(_mm256_and_si256(q, odd))};
}
SEISMOGRAD_INLINE Floats eight_halves(const Half* x) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))); }
SEISMOGRAD_INLINE Four load(const Half* x) { return {eight_halves(x), eight_halves(x + 8), eight_halves(x + 16), eight_halves(x + 24)}; }

SEISMOGRAD_INLINE Integers no_integers() { return _mm256_setzero_si256(); }
SEISMOGRAD_INLINE Integers lower_halves(Integers x) { return _mm256_and_si256(x, _mm256_set1_epi32(0xffff)); }
SEISMOGRAD_INLINE Integers upper_halves(Integers x) { return _mm256_srli_epi32(x, 16); }
SEISMOGRAD_INLINE Integers largest(Integers x, Integers y) { return _mm256_max_epi32(x, y); }

SEISMOGRAD_INLINE Integers magnitude(Floats x) { return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff)); }
SEISMOGRAD_INLINE Sizes sizes(const float*, const Four& x) { return {magnitude(x.a), magnitude(x.b), magnitude(x.c), magnitude(x.d)}; }
SEISMOGRAD_INLINE Integers largest(Integers top, const Sizes& x) { return largest(top, largest(largest(x.a, x.b), largest(x.c, x.d))); }
SEISMOGRAD_INLINE Integers count_zeros(Integers count, const Sizes& x) {
  const Integers zero = _mm256_setzero_si256();
  const Integers ab = _mm256_add_epi32(_mm256_cmpeq_epi32(x.a, zero), _mm256_cmpeq_epi32(x.b, zero));
  const Integers cd = _mm256_add_epi32(_mm256_cmpeq_epi32(x.c, zero), _mm256_cmpeq_epi32(x.d, zero));
  return _mm256_sub_epi32(count, _mm256_add_epi32(ab, cd));
}

SEISMOGRAD_INLINE ShortSizes sizes(const void* x, const Four&) {
  const Integers p = sixteen_bits(x), q = sixteen_bits(static_cast<const char*>(x) + 32), no_sign = _mm256_set1_epi16(0x7fff);
  return {_mm256_and_si256(p, no_sign), _mm256_and_si256(q, no_sign)};
}
SEISMOGRAD_INLINE Integers largest(Integers top, const ShortSizes& x) { return _mm256_max_epi16(top, _mm256_max_epi16(x.p, x.q)); }
SEISMOGRAD_INLINE Integers count_zeros(Integers count, const ShortSizes& x) {
  const Integers zero = _mm256_setzero_si256();
  return _mm256_sub_epi16(count, _mm256_add_epi16(_mm256_cmpeq_epi16(x.p, zero), _mm256_cmpeq_epi16(x.q, zero)));
}

SEISMOGRAD_INLINE uint32_t largest_of(Integers x) {
  __m128i y = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  y = _mm_max_epi32(y, _mm_shuffle_epi32(y, 0x4e));
  y = _mm_max_epi32(y, _mm_shuffle_epi32(y, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(y));
}
SEISMOGRAD_INLINE int64_t total_of(Integers x) {
  __m128i y = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4e));
  y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0xb1));
  return _mm_cvtsi128_si32(y);
}

// The upper byte of (upper half + 0x80), without its sign: the half-exponent.
SEISMOGRAD_INLINE Bytes half_exponents(Integers upper_p, Integers upper_q) {
  const Integers half = _mm256_set1_epi16(0x80), p = _mm256_add_epi16(upper_p, half), q = _mm256_add_epi16(upper_q, half);
  const Bytes mixed = _mm256_blendv_epi8(_mm256_srli_epi16(p, 8), q, _mm256_set1_epi16(static_cast<short>(0xff00)));
  return _mm256_and_si256(mixed, _mm256_set1_epi8(0x7f));
}
SEISMOGRAD_INLINE Integers upper_halves(Floats x, Floats y) {
  return _mm256_blend_epi16(_mm256_srli_epi32(_mm256_castps_si256(x), 16), _mm256_castps_si256(y), 0xaa);
}
SEISMOGRAD_INLINE Bytes exponents(const void*, const Four& x) { return half_exponents(upper_halves(x.a, x.b), upper_halves(x.c, x.d)); }
SEISMOGRAD_INLINE Bytes exponents(const BFloat16* x, const Four&) { return half_exponents(sixteen_bits(x), sixteen_bits(x + 16)); }

SEISMOGRAD_INLINE Bytes no_bytes() { return _mm256_setzero_si256(); }
SEISMOGRAD_INLINE Bytes all_bytes(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }
SEISMOGRAD_INLINE Bytes load_bytes(const uint8_t* x) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)); }
SEISMOGRAD_INLINE void store_bytes(uint8_t* to, Bytes x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x); }
SEISMOGRAD_INLINE Bytes count_equal(Bytes count, Bytes x, Bytes value) { return _mm256_sub_epi8(count, _mm256_cmpeq_epi8(x, value)); }
SEISMOGRAD_INLINE int64_t total_of_bytes(Bytes x) {
  const __m256i four = _mm256_sad_epu8(x, _mm256_setzero_si256());
  const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
  return _mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
}
// Which bytes are less than `first`, but not zero.
SEISMOGRAD_INLINE uint64_t below(Bytes x, Bytes first) {
  const Bytes one = _mm256_set1_epi8(1);  // for every other byte, (x - 1) < (first - 1) as unsigned
  const Bytes place = _mm256_sub_epi8(x, one), limit = _mm256_sub_epi8(first, one);
  return ~static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(place, limit), place)));
}
