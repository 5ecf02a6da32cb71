// The probe of a step: slices of weights whose turn it is, copied before it and compared behind it, as `UpdateProbe` and `PendingProbe` have it where
// the kernel takes all of them.

#include <algorithm>
#include <cstring>

#include "visits.hpp"

namespace seismograd {

namespace {

// How many scalars the parameters of the plan have together, and where the copies go; false where Python has not yet asked that of just these.
bool ask_copies(Visits& own) {
  Known& known = *own.known;
  if (known.num_scalars >= 0) return true;
  const Ref counted = get(known.probe, s__known), memory = get(known.copies, s__memory);
  if (!counted || !PyTuple_Check(counted.get()) || PyTuple_Size(counted.get()) != 2 || !memory || !take(memory, s_size, &known.copies_bytes))
    return false;
  PyObject* ids = PyTuple_GetItem(counted.get(), 0);
  const Py_ssize_t n = PyList_Size(known.ids.get());
  if (!PyBytes_Check(ids) || PyBytes_Size(ids) != n * static_cast<Py_ssize_t>(sizeof(void*))) return false;
  const char* bytes = PyBytes_AsString(ids);
  for (Py_ssize_t i = 0; i < n; ++i) {
    void *id = PyLong_AsVoidPtr(PyList_GetItem(known.ids.get(), i)), *before;
    std::memcpy(&before, bytes + i * static_cast<Py_ssize_t>(sizeof(before)), sizeof(before));
    if (id != before) return false;
  }
  known.copies_at = get(known.copies, s__address);
  known.keep_at = get(known.copies, s__keep_at);
  known.compare_at = get(known.copies, s__compare_at);
  return known.copies_at && known.keep_at && known.compare_at && take(known.probe, s__next, &known.probe_next) &&
         take(known.probe, s__round, &known.probe_round) && take(held(PyTuple_GetItem(counted.get(), 1)), &known.num_scalars);
}

bool are_fine(const Visits& own, const Ref& dtypes) {
  bool are_all = true;
  for (Py_ssize_t i = 0; are_all && i < PyList_Size(dtypes.get()); ++i) {
    are_all = PySet_Contains(own.coarse, PyList_GetItem(dtypes.get(), i)) == 0;
  }
  return are_all;
}

// The columns of the slices' weights, as `ParameterTable.columns`.
Ref columns_of(const Visits& own, const Ref& slices) {
  const Ref known = get(own.table, s__columns);
  const Py_ssize_t n = PyList_Size(slices.get());
  Ref found(PyList_New(n));
  if (!found || !known || !PyDict_Check(known.get()) || !is_empty(own.table, s_died)) return Ref();
  for (Py_ssize_t i = 0; i < n; ++i) {
    const Ref id(PyLong_FromVoidPtr(PyTuple_GetItem(PyList_GetItem(slices.get(), i), 0)));
    PyObject* column = id ? PyDict_GetItemWithError(known.get(), id.get()) : nullptr;  // borrowed
    if (!column || PyList_SetItem(found.get(), i, held(column).release()) < 0) return Ref();
  }
  return found;
}

}  // namespace

bool copy_slices(Visits& own, const Ref& parameters, int64_t num) {
  Known& known = *own.known;
  const Limits& limits = own.limits_;
  double began_s, ended_s;
  if (!clock_s(own, &began_s) || !ask_copies(own)) return false;
  const int64_t most = std::max(limits.min_copied, static_cast<int64_t>(limits.share_copied * static_cast<double>(known.num_scalars)));
  const int64_t room = std::min(limits.max_slice, std::max(limits.min_slice, most / num));
  const Ref found = call(own.keep_slices, parameters.get(), boxed(known.probe_next).get(), boxed(known.probe_round).get(), boxed(num).get(),
                         boxed(room).get(), own.dtype_numbers, known.copies_at.get(), boxed(known.copies_bytes).get(), known.keep_at.get());
  if (!found || !PyTuple_Check(found.get()) || PyTuple_Size(found.get()) != 4) return false;
  Ref slices = held(PyTuple_GetItem(found.get(), 0)), dtypes = held(PyTuple_GetItem(found.get(), 1));
  int64_t next, turn;
  if (!are_fine(own, dtypes) || !take(held(PyTuple_GetItem(found.get(), 2)), &next) || !take(held(PyTuple_GetItem(found.get(), 3)), &turn) ||
      !clock_s(own, &ended_s) || !is_as_asked(own)) {
    return false;
  }
  known.probe_next = next;
  known.probe_round = turn;
  known.slices = std::move(slices);
  known.slice_dtypes = std::move(dtypes);
  known.probes_s += ended_s - began_s;
  return true;
}

Ref compared_slices(Visits& own, PyObject* optimizer) {
  Known& known = *own.known;
  double began_s, ended_s;
  const Ref kept = clock_s(own, &began_s) ? get(held(optimizer), s___dict__) : Ref();
  if (!kept || !PyDict_Check(kept.get())) return Ref();
  PyObject* left_out = PyDict_GetItemWithError(kept.get(), s_found_inf);  // borrowed
  if ((left_out && left_out != Py_None) || PyErr_Occurred()) return Ref();
  const Ref shape(Py_BuildValue("((nn))", static_cast<Py_ssize_t>(2), PyList_Size(known.slices.get())));
  const Ref numbers(shape ? PyObject_CallObject(own.new_array, shape.get()) : nullptr), columns = columns_of(own, known.slices);
  if (!numbers || !columns ||
      call(own.compare_slices, known.slices.get(), known.slice_dtypes.get(), own.dtype_numbers, known.copies_at.get(), known.compare_at.get(),
           numbers.get())
              .get() != Py_True) {
    return Ref();
  }
  const Ref nothing(PyList_New(0));
  Ref probed = made(own.probed_updates);
  if (!nothing || !probed || !set_frozen(probed, s_columns, columns.get()) || !set_frozen(probed, s_numbers, numbers.get()) ||
      !set_frozen(probed, s_waiting, nothing.get()) || !clock_s(own, &ended_s) || !is_as_asked(own)) {
    return Ref();
  }
  known.probes_s += ended_s - began_s;
  return probed;
}

bool tell_probe(const Visits& own) {
  Known& known = *own.known;
  if (known.probes_s != 0) {
    double before_s;
    const Ref spent = held(own.spent);
    if (!take(spent, s_probes_s, &before_s) || !set(spent, s_probes_s, boxed(before_s + known.probes_s))) return false;
    known.probes_s = 0;
  }
  if (known.num_scalars >= 0 && !(set(known.probe, s__next, known.probe_next) && set(known.probe, s__round, known.probe_round))) return false;
  if (!known.slices) return true;
  const Ref pending = made(own.pending_probe), others(PyList_New(0)), layouts(PyList_New(0)), kept(PyList_New(0)), fine(PyDict_New());
  const bool is_told = pending && set(pending, s_closure, Py_False) && set(pending, s_copies, known.copies) && set(pending, s_slices, known.slices) &&
                       set(pending, s_dtypes, known.slice_dtypes) && set(pending, s_others, others) && set(pending, s_layouts, layouts) &&
                       set(pending, s_kept, kept) && set(pending, s_fine, fine) && set(known.probe, s_pending, pending);
  known.slices = Ref();
  known.slice_dtypes = Ref();
  known.is_probed = true;
  return is_told;
}

}  // namespace seismograd
