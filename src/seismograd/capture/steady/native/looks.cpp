// What is looked at in a step with samples, where nothing is new: as `GroupSettings` and `CopiedWeights` ask it.

#include "visits.hpp"

namespace seismograd {

namespace {

// Whether the settings of the group are the very ones that were read last.
bool are_as_read(const Visits& own, PyObject* group) {
  const Ref read = get(own.settings, s__read), key(PyTuple_Pack(2, own.known->index.get(), own.zero));
  if (!read || !PyDict_Check(read.get()) || !key) return false;
  PyObject* before = PyDict_GetItemWithError(read.get(), key.get());  // borrowed
  const Py_ssize_t n = PyTuple_Size(own.setting_keys);
  bool are_same = before && PyList_Check(before) && PyList_Size(before) == n;
  for (Py_ssize_t i = 0; are_same && i < n; ++i) {
    PyObject* now = PyDict_GetItemWithError(group, PyTuple_GetItem(own.setting_keys, i));  // borrowed
    are_same = PyList_GetItem(before, i) == (now ? now : Py_None);
  }
  return are_same;
}

}  // namespace

bool sees_nothing_new(const Visits& own, PyObject* group) {
  const Ref copies = held(own.copies);
  int64_t num_looks;
  return are_as_read(own, group) && is_empty(copies, s__pairs) && are_equal(get(copies, s__version), get(own.table, s_version)) &&
         take(copies, s__num_looks, &num_looks) && set(copies, s__num_looks, num_looks + 1);
}

}  // namespace seismograd
