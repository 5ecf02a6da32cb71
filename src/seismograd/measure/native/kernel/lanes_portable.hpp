// Vectors of plain C++: four float32. The words that `measure.inc` is written in.

constexpr int kLanes = 4;
constexpr int kMaskStride = 1;  // bits per byte in what `outside` returns

struct Floats {
  float lane[kLanes];
};
struct Doubles {
  double lane[kLanes / 2];  // half as many
};
struct Integers {
  uint32_t lane[kLanes];
};
struct Bytes {
  uint8_t lane[4 * kLanes];  // one byte for each number of four vectors
};
struct Four {
  Floats a, b, c, d;
};

SEISMOGRAD_INLINE uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
SEISMOGRAD_INLINE float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

SEISMOGRAD_INLINE Floats no_floats() { return {}; }
SEISMOGRAD_INLINE Floats add(Floats x, const Floats& y) {
  for (int j = 0; j < kLanes; ++j) x.lane[j] += y.lane[j];
  return x;
}
SEISMOGRAD_INLINE Floats add_square(Floats sum, const Floats& x) {
  for (int j = 0; j < kLanes; ++j) sum.lane[j] += x.lane[j] * x.lane[j];
  return sum;
}
SEISMOGRAD_INLINE void store(float* to, const Floats& x) { std::memcpy(to, &x, sizeof x); }
SEISMOGRAD_INLINE double total(const Floats& x) {
  double sum = 0;
  for (const float lane : x.lane) sum += lane;
  return sum;
}

SEISMOGRAD_INLINE Doubles no_doubles() { return {}; }
template <class Number>
SEISMOGRAD_INLINE Doubles load_doubles(const Number* x) {
  return {{static_cast<double>(x[0]), static_cast<double>(x[1])}};
}
SEISMOGRAD_INLINE Doubles add(const Doubles& x, const Doubles& y) { return {{x.lane[0] + y.lane[0], x.lane[1] + y.lane[1]}}; }
SEISMOGRAD_INLINE Doubles multiply(const Doubles& x, double scale) { return {{x.lane[0] * scale, x.lane[1] * scale}}; }
SEISMOGRAD_INLINE Doubles add_square(const Doubles& sum, const Doubles& x) {
  return {{sum.lane[0] + x.lane[0] * x.lane[0], sum.lane[1] + x.lane[1] * x.lane[1]}};
}
SEISMOGRAD_INLINE double total(const Doubles& x) { return x.lane[0] + x.lane[1]; }

SEISMOGRAD_INLINE float wide(float x) { return x; }
SEISMOGRAD_INLINE float wide(BFloat16 x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }
SEISMOGRAD_INLINE float wide(Half x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16, rest = (x.bits & 0x7fffu) << 13;
  if (rest >= 0x7c00u << 13) return float_of(sign | 0x7f800000u | rest);  // NaN and infinities
  if (rest >= 0x0400u << 13) return float_of(sign | (rest + (112u << 23)));
  const float denormal = static_cast<float>(x.bits & 0x7fffu) * 0x1p-24f;
  return sign ? -denormal : denormal;
}
template <class Number>
SEISMOGRAD_INLINE Floats load_one(const Number* x) {
  Floats loaded;
  for (int j = 0; j < kLanes; ++j) loaded.lane[j] = wide(x[j]);
  return loaded;
}
template <class Number>
SEISMOGRAD_INLINE Four load(const Number* x) {
  return {load_one(x), load_one(x + kLanes), load_one(x + 2 * kLanes), load_one(x + 3 * kLanes)};
}

SEISMOGRAD_INLINE Integers no_integers() { return {}; }
SEISMOGRAD_INLINE Integers magnitude(const Floats& x) {
  Integers bits;
  for (int j = 0; j < kLanes; ++j) bits.lane[j] = bits_of(x.lane[j]) & 0x7fffffffu;
  return bits;
}
SEISMOGRAD_INLINE Integers largest(Integers x, const Integers& y) {
  for (int j = 0; j < kLanes; ++j) x.lane[j] = x.lane[j] < y.lane[j] ? y.lane[j] : x.lane[j];
  return x;
}
SEISMOGRAD_INLINE Integers count_zeros(Integers count, const Integers& a, const Integers& b, const Integers& c, const Integers& d) {
  for (int j = 0; j < kLanes; ++j) count.lane[j] += (a.lane[j] == 0) + (b.lane[j] == 0) + (c.lane[j] == 0) + (d.lane[j] == 0);
  return count;
}
SEISMOGRAD_INLINE uint32_t largest_of(const Integers& x) {
  uint32_t top = 0;
  for (const uint32_t lane : x.lane) top = top < lane ? lane : top;
  return top;
}
SEISMOGRAD_INLINE int64_t total_of(const Integers& x) {
  int64_t sum = 0;
  for (const uint32_t lane : x.lane) sum += lane;
  return sum;
}

SEISMOGRAD_INLINE Bytes exponents(const void*, const Four& x) {
  Bytes bytes;
  const Floats* vectors[] = {&x.a, &x.b, &x.c, &x.d};
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < kLanes; ++j) bytes.lane[i * kLanes + j] = (bits_of(vectors[i]->lane[j]) + 0x00800000u) >> 24 & 0x7f;
  }
  return bytes;
}

SEISMOGRAD_INLINE Bytes no_bytes() { return {}; }
SEISMOGRAD_INLINE Bytes all_bytes(int value) {
  Bytes bytes;
  std::memset(&bytes, value, sizeof bytes);
  return bytes;
}
SEISMOGRAD_INLINE Bytes load_bytes(const uint8_t* x) {
  Bytes bytes;
  std::memcpy(&bytes, x, sizeof bytes);
  return bytes;
}
SEISMOGRAD_INLINE void store_bytes(uint8_t* to, const Bytes& x) { std::memcpy(to, &x, sizeof x); }
SEISMOGRAD_INLINE Bytes count_equal(Bytes count, const Bytes& x, const Bytes& value) {
  for (int j = 0; j < 4 * kLanes; ++j) count.lane[j] += x.lane[j] == value.lane[j];
  return count;
}
SEISMOGRAD_INLINE int64_t total_of_bytes(const Bytes& x) {
  int64_t sum = 0;
  for (const uint8_t lane : x.lane) sum += lane;
  return sum;
}
// Which bytes are neither in [first, first + width) nor zero.
SEISMOGRAD_INLINE uint64_t outside(const Bytes& x, const Bytes& first, const Bytes& width_less_one) {
  uint64_t mask = 0;
  for (int j = 0; j < 4 * kLanes; ++j) {
    const bool is_outside = static_cast<uint8_t>(x.lane[j] - first.lane[j]) > width_less_one.lane[j] && x.lane[j] != 0;
    mask |= static_cast<uint64_t>(is_outside) << j;
  }
  return mask;
}
