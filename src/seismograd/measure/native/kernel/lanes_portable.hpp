// Vectors of plain C++: four float32. The words that `measure.inc` is written in.

constexpr int kLanes = 4;
constexpr int kMaskStride = 1;  // bits per byte in what `below` returns

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
// The magnitudes of their numbers as integers, which are in the same order: of float32, and of 16-bit numbers.
struct Sizes {
  uint32_t lane[4 * kLanes];
};
struct ShortSizes {
  uint32_t lane[4 * kLanes];
};

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
SEISMOGRAD_INLINE Integers lower_halves(Integers x) {
  for (uint32_t& lane : x.lane) lane &= 0xffff;
  return x;
}
SEISMOGRAD_INLINE Integers upper_halves(Integers x) {
  for (uint32_t& lane : x.lane) lane >>= 16;
  return x;
}
SEISMOGRAD_INLINE Integers largest(Integers x, const Integers& y) {
  for (int j = 0; j < kLanes; ++j) x.lane[j] = x.lane[j] < y.lane[j] ? y.lane[j] : x.lane[j];
  return x;
}

SEISMOGRAD_INLINE Sizes sizes(const float*, const Four& x) {
  Sizes sizes;
  const Floats* vectors[] = {&x.a, &x.b, &x.c, &x.d};
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < kLanes; ++j) sizes.lane[i * kLanes + j] = bits_of(vectors[i]->lane[j]) & 0x7fffffffu;
  }
  return sizes;
}
template <class Number>
SEISMOGRAD_INLINE ShortSizes sizes(const Number* x, const Four&) {
  ShortSizes sizes;
  for (int j = 0; j < 4 * kLanes; ++j) sizes.lane[j] = x[j].bits & 0x7fffu;
  return sizes;
}
template <class AnySizes>
SEISMOGRAD_INLINE Integers largest(Integers top, const AnySizes& x) {
  for (int j = 0; j < 4 * kLanes; ++j) top.lane[j % kLanes] = top.lane[j % kLanes] < x.lane[j] ? x.lane[j] : top.lane[j % kLanes];
  return top;
}
template <class AnySizes>
SEISMOGRAD_INLINE Integers count_zeros(Integers count, const AnySizes& x) {
  for (int j = 0; j < 4 * kLanes; ++j) count.lane[j % kLanes] += x.lane[j] == 0;
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
// Which bytes are less than `first`, but not zero.
SEISMOGRAD_INLINE uint64_t below(const Bytes& x, const Bytes& first) {
  uint64_t mask = 0;
  for (int j = 0; j < 4 * kLanes; ++j) mask |= static_cast<uint64_t>(x.lane[j] < first.lane[j] && x.lane[j] != 0) << j;
  return mask;
}
