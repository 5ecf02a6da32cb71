// What several visits ask, and make.

#include <chrono>
#include <cmath>

#include "visits.hpp"

namespace seismograd {

constexpr int64_t kLeastAddress = 1 << 16;  // an offset into no memory is less

bool clock_s(const Visits& own, double* seconds) {
  if (std::isnan(own.clock_ahead_s)) return take(call(own.perf_counter), seconds);
  *seconds = own.clock_ahead_s + std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  return true;
}

Outcome have_done(Visits& own, Event event, int position, std::initializer_list<PyObject*> args) {
  Known& known = *own.known;
  double began_s, ended_s;
  const Ref all(PyTuple_New(static_cast<Py_ssize_t>(args.size())));
  if (!all || !clock_s(own, &began_s)) return Outcome::kBroken;
  Py_ssize_t i = 0;
  for (PyObject* arg : args) {
    if (!arg) return Outcome::kBroken;
    Py_INCREF(arg);  // which the tuple takes in any case
    if (PyTuple_SetItem(all.get(), i++, arg) < 0) return Outcome::kBroken;
  }
  own.rare_thread = PyThread_get_thread_ident();
  const Ref done(PyObject_CallObject(PyTuple_GetItem(own.rare[event], position), all.get()));
  own.rare_thread = 0;
  if (!done) return Outcome::kRaised;
  int64_t num_full;
  // It has taken the lock once, and has changed nothing that was asked.
  const bool is_as_known = known.num_taken + 1 == lock_of(own).num_taken && take(own.visits, s_num_full, &num_full) && num_full == known.num_full &&
                           is_empty(own.guard, s_failures);
  if (is_as_known) known.num_taken += 1;
  if (!take(known.iteration.object, s_overhead_s, &known.iteration.overhead_s)) return Outcome::kBroken;
  if (!clock_s(own, &ended_s)) return Outcome::kBroken;
  own.rare_s += ended_s - began_s;
  return Outcome::kYes;
}

Outcome tell_xray(Visits& own, Event event, int position, std::initializer_list<PyObject*> args) {
  Known& known = *own.known;
  if (!known.has_xray) return Outcome::kYes;
  if (!tell(own)) return Outcome::kBroken;
  const Outcome found = have_done(own, event, position, args);
  known.has_xray = !is(own.xray, s_recorder, Py_None);
  return found;
}

void prefetch(const void* at, size_t num_bytes) {
#if defined(__GNUC__)
  constexpr size_t kLine = 64;
  for (size_t i = 0; i < num_bytes; i += kLine) __builtin_prefetch(static_cast<const char*>(at) + i, 1);
#else
  (void)at, (void)num_bytes;
#endif
}

bool take_marks(const Visits& own, Marks* marks) {
  const Ref& references = own.known->references;
  const Py_ssize_t n = PyList_Size(references.get());
  marks->each.assign(static_cast<size_t>(n), Mark());
  own.known->touched.resize(3 * static_cast<size_t>(n));
  const void** touched = own.known->touched.data();
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* reference = PyList_GetItem(references.get(), i);
    const Ref parameter = held(referent(reference));
    if (!parameter || !is_plain(own, parameter.get())) return false;
    const Ref gradient = get(parameter, s_grad);
    *touched++ = reference;
    *touched++ = parameter.get();
    *touched++ = gradient.get();
    if (!gradient) return false;
    if (gradient.get() == Py_None) continue;
    Mark& mark = marks->each[static_cast<size_t>(i)];
    mark.gradient = gradient.get();
    if (type_of(gradient.get()) != own.tensor || !take(gradient, s__version, &mark.version)) return false;
  }
  return true;
}

Used used_of(const Visits& own, PyObject* numbers) {
  const int64_t rows = PyLong_AsLongLong(own.num_numbers), norms = PyLong_AsLongLong(own.norm), nonfinites = PyLong_AsLongLong(own.nonfinite);
  Py_buffer view;
  if (PyErr_Occurred() || PyObject_GetBuffer(numbers, &view, PyBUF_C_CONTIGUOUS) < 0) {
    PyErr_Clear();
    return Used::kOther;
  }
  const int64_t n = view.len / static_cast<int64_t>(sizeof(double)) / rows;
  bool are_finite = n > 0 && reinterpret_cast<uintptr_t>(view.buf) % alignof(double) == 0, has_zeros = false;
  const double* all = static_cast<const double*>(view.buf);
  for (int64_t i = 0; are_finite && i < n; ++i) {
    are_finite = all[nonfinites * n + i] == 0;  // NaN: it was not counted
    has_zeros = has_zeros || all[norms * n + i] == 0;
  }
  PyBuffer_Release(&view);
  return !are_finite ? Used::kOther : has_zeros ? Used::kZeros : Used::kOrdinary;
}

Used used_of(const Visits& own, const Ref& reading) {
  if (!reading || reading.get() == Py_None) return Used::kOrdinary;
  if (is(reading, s_is_ordinary, Py_True)) return Used::kOrdinary;
  const Ref values = get(reading, s_values);
  const bool is_table = values && type_of(values.get()) == own.number_table && is(values, s_places, own.places) && is(reading, s_arrival, Py_None) &&
                        is(reading, s_is_unread, Py_False);
  const Ref kept = is_table ? get(values, s_kept) : Ref();
  return kept ? used_of(own, kept.get()) : Used::kOther;
}

bool is_only(const Visits& own, PyObject* optimizer) { return referent(own.known->optimizer.get()) == optimizer; }

Ref number_of(const Visits& own, PyObject* loss) {
  int64_t address;
  Ref quickly = call(own.number_of_loss, loss);
  if (!quickly || quickly.get() != Py_None) return quickly;
  if (!is(loss, s_is_cpu, Py_True) || !take(call(own.data_ptr, loss), &address) || address < kLeastAddress) return Ref();
  Ref number = call(own.item, loss);
  return number && PyFloat_CheckExact(number.get()) ? std::move(number) : Ref();
}

bool are_equal(const Ref& one, const Ref& other) {
  return one && other && (one.get() == other.get() || PyObject_RichCompareBool(one.get(), other.get(), Py_EQ) == 1);
}

Ref site_here(const Visits& own, Event event) {
  KnownLine& line = own.known->lines[event];
  KnownLine::Codes codes;
  bool is_as_before = static_cast<bool>(line.site);
  Ref frame = held(reinterpret_cast<PyObject*>(PyEval_GetFrame()));  // that of the hook
  for (int k = 0; frame && frame.get() != Py_None && k < KnownLine::kMost; ++k) {
    Ref& code = codes[static_cast<size_t>(k)];
    code = Ref(reinterpret_cast<PyObject*>(PyFrame_GetCode(reinterpret_cast<PyFrameObject*>(frame.get()))));
    is_as_before = is_as_before && k < line.num && line.codes[static_cast<size_t>(k)].get() == code.get();
    bool is_of_user = k == line.num - 1;
    if (!is_as_before) {
      const Ref file = get(code, s_co_filename);
      PyObject* known = file ? PyDict_GetItemWithError(own.known->kinds.get(), file.get()) : nullptr;  // borrowed
      int64_t kind;
      if (!known || !take(held(known), &kind) || kind == own.limits_.library) return Ref();
      is_of_user = kind == own.limits_.user;
    }
    if (is_of_user) {
      int64_t instruction;
      const Ref at = get(frame, s_f_lasti);
      if (!at || !take(held(at.get()), &instruction)) return Ref();
      if (is_as_before && instruction == line.instruction) return held(line.site.get());
      const Ref id(PyLong_FromVoidPtr(code.get())), key(id ? PyTuple_Pack(2, id.get(), at.get()) : nullptr);
      PyObject* place = key ? PyDict_GetItemWithError(own.known->places.get(), key.get()) : nullptr;  // borrowed
      if (!place || !PyTuple_Check(place) || PyTuple_Size(place) != 2 || PyTuple_GetItem(place, 0) != code.get()) return Ref();
      line.codes.swap(codes);
      line.num = k + 1;
      line.instruction = instruction;
      line.site = held(PyTuple_GetItem(place, 1));
      return held(line.site.get());
    }
    frame = get(frame, s_f_back);
  }
  return Ref();
}

bool has_room(const Visits& own) { return own.known->num_events < own.limits_.most_without_step; }

Ref known_scalar(const Visits& own, PyObject* value, bool is_used) {
  Ref scalar = made(own.scalar);
  const bool is_made = scalar && set(scalar, s_known, Py_True) && set(scalar, s_used, is_used ? Py_True : Py_False) && set(scalar, s_value, value) &&
                       set(scalar, s_tensor, Py_None);
  return is_made ? std::move(scalar) : Ref();
}

}  // namespace seismograd
