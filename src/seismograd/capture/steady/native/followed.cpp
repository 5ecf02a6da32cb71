// The weights that are followed between two steps: what the last one left of them, and what the next one finds, as `OverwrittenWeights` has it.

#include <cstring>

#include "visits.hpp"

namespace seismograd {

namespace {

constexpr int kRows = 4;  // of a slice of a weight, as NUM_ROWS there

// Whether a weight still lies where it lay, with as many scalars, one behind the other.
bool lies(const Visits& own, const FollowedWeight& followed) {
  const Ref weight = held(referent(followed.reference.get()));
  int64_t address, num_bytes;
  return weight && is_plain(own, weight.get()) && take(call(own.data_ptr, weight.get()), &address) && address == followed.address &&
         take(weight, s_nbytes, &num_bytes) && num_bytes == followed.num_bytes && call(own.is_contiguous, weight.get()).get() == Py_True;
}

// Take one of Python's slices; false where its rows are not known, or it does not lie where they are.
bool take(const Visits& own, PyObject* slice, FollowedWeight* followed) {
  int64_t where[5];  // as `CpuRows.where`: address, bytes of storage, first, stride, width
  const Ref rows = get(slice, s_rows), kept = get(slice, s_kept), packed = rows && rows.get() != Py_None ? get(rows, s_where) : Ref();
  if (!kept || !PyBytes_Check(kept.get()) || !packed || !PyBytes_Check(packed.get()) ||
      PyBytes_Size(packed.get()) != static_cast<Py_ssize_t>(sizeof(where))) {
    return false;
  }
  std::memcpy(where, PyBytes_AsString(packed.get()), sizeof(where));
  followed->slice = held(slice);
  followed->reference = get(slice, s_weight);
  followed->address = where[0];
  followed->first = where[2];
  followed->stride = where[3];
  followed->width = where[4];
  const Ref weight = followed->reference ? held(referent(followed->reference.get())) : Ref();
  const Ref storage = weight ? call(own.untyped_storage, weight.get()) : Ref(), shape = get(rows, s_shape);
  int64_t num_bytes;
  if (PyBytes_Size(kept.get()) != kRows * followed->width || !storage || !take(call(own.storage_nbytes, storage.get()), &num_bytes) ||
      num_bytes != where[1] || !are_equal(shape, get(weight, s_shape)) || !is(weight, s_dtype, get(slice, s_dtype).get()) ||
      !take(weight, s_nbytes, &followed->num_bytes) || !lies(own, *followed)) {
    return false;
  }
  const char* bytes = PyBytes_AsString(kept.get());
  followed->kept.assign(bytes, bytes + kRows * followed->width);
  return true;
}

const char* row_of(const FollowedWeight& followed, int row) {
  return reinterpret_cast<const char*>(static_cast<uintptr_t>(followed.address + followed.first + row * followed.stride));
}

// Take the weights that Python follows, where that was not done yet; false where one does not lie as it did.
bool take_all(const Visits& own) {
  Known& known = *own.known;
  if (known.are_followed) return true;
  const Ref& slices = known.followed_slices;
  const Py_ssize_t n = PyList_Size(slices.get());
  known.followed.resize(static_cast<size_t>(n));
  known.are_followed = true;
  for (Py_ssize_t i = 0; known.are_followed && i < n; ++i) {
    known.are_followed = take(own, PyList_GetItem(slices.get(), i), &known.followed[static_cast<size_t>(i)]);
  }
  return known.are_followed;
}

}  // namespace

bool are_unchanged(const Visits& own) {
  if (!take_all(own)) return false;
  for (const FollowedWeight& each : own.known->followed) {
    if (!lies(own, each)) return false;
    for (int row = 0; row < kRows; ++row) {
      if (std::memcmp(row_of(each, row), each.kept.data() + row * each.width, static_cast<size_t>(each.width)) != 0) return false;
    }
  }
  return true;
}

bool keep_followed(const Visits& own) {
  Known& known = *own.known;
  if (!take_all(own)) return false;
  for (const FollowedWeight& each : known.followed) {
    if (!lies(own, each)) return false;
  }
  for (FollowedWeight& each : known.followed) {
    for (int row = 0; row < kRows; ++row) std::memcpy(each.kept.data() + row * each.width, row_of(each, row), static_cast<size_t>(each.width));
  }
  known.has_kept = true;
  return true;
}

bool tell_followed(const Visits& own) {
  Known& known = *own.known;
  if (!known.has_kept) return true;
  known.has_kept = false;
  for (const FollowedWeight& each : known.followed) {
    const Ref kept(PyBytes_FromStringAndSize(each.kept.data(), static_cast<Py_ssize_t>(each.kept.size())));
    if (!set(each.slice, s_kept, kept)) return false;
  }
  return true;
}

}  // namespace seismograd
